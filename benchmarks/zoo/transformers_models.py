"""transformers: the architectures in tiny configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo import operators
from zoo.entry import BATCH, Entry

if TYPE_CHECKING:
    import torch

VOCABULARY = 96
TOKENS = 12

BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 32,
}
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
GROUPED = {**DECODER, "num_key_value_heads": 2}
VISION = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
SEQUENCE = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 64,
}
WAVE = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (16, 24, 24),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 3),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 96,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
NO_CACHE = {"use_cache": False}
CLIP_TEXT = {**BERT, "max_position_embeddings": 16, "projection_dim": 32, "eos_token_id": 2}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "layer_type": "basic"}


@dataclass(frozen=True)
class Tiny:
    """A configuration.

    Attributes:
        family: What it stands for.
        model: Class of the model.
        config: Class of its configuration; by default the model's own.
        options: Of the configuration.
        inputs: Names of inputs, each of a kind that `_example` knows, separated by a comma.
        side: Of the picture.
        eager: Attention spelled out, instead of PyTorch's fused one.
    """

    family: str
    model: str
    options: dict[str, Any]
    inputs: str = "input_ids"
    side: int = 32
    eager: bool = False
    dynamic: bool = True
    config: str | None = None
    rank: int = 2
    failure: str | None = None


TABLE: dict[str, Tiny] = {
    # encoders of text
    "bert": Tiny("BERT", "BertForSequenceClassification", BERT, rank=0),
    "bert_mask": Tiny("BERT", "BertModel", BERT, "input_ids,attention_mask", eager=True),
    "bert_mlm": Tiny("BERT, tied embeddings", "BertForMaskedLM", BERT),
    "distilbert": Tiny(
        "DistilBERT",
        "DistilBertForSequenceClassification",
        {
            "vocab_size": VOCABULARY,
            "dim": 48,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 96,
            "max_position_embeddings": 32,
        },
    ),
    "albert": Tiny("ALBERT", "AlbertForSequenceClassification", {**BERT, "embedding_size": 24}),
    "roberta": Tiny("RoBERTa", "RobertaForTokenClassification", BERT),
    "electra": Tiny("ELECTRA", "ElectraForSequenceClassification", {**BERT, "embedding_size": 24}),
    "deberta": Tiny(
        "DeBERTa",
        "DebertaForSequenceClassification",
        {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16},
    ),
    "deberta_v2": Tiny(
        "DeBERTa v3",
        "DebertaV2ForSequenceClassification",
        {
            **BERT,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
    ),
    "mobilebert": Tiny(
        "MobileBERT",
        "MobileBertForSequenceClassification",
        {**BERT, "embedding_size": 24, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    ),
    "squeezebert": Tiny("SqueezeBERT", "SqueezeBertForSequenceClassification", {**BERT, "embedding_size": 48}),
    "convbert": Tiny("ConvBERT", "ConvBertForSequenceClassification", {**BERT, "embedding_size": 24}),
    "fnet": Tiny("FNet", "FNetForSequenceClassification", {**BERT, "tpu_short_seq_length": 12}),
    "funnel": Tiny(
        "Funnel",
        "FunnelBaseModel",
        {
            "vocab_size": VOCABULARY,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
            "d_model": 48,
            "n_head": 4,
            "d_head": 12,
            "d_inner": 96,
        },
    ),
    "mpnet": Tiny("MPNet", "MPNetModel", BERT),
    "nystromformer": Tiny(
        "Nystromformer", "NystromformerModel", {**BERT, "segment_means_seq_len": 12, "num_landmarks": 4}
    ),
    "roformer": Tiny("RoFormer", "RoFormerModel", {**BERT, "embedding_size": 48}),
    "modernbert": Tiny(
        "ModernBERT",
        "ModernBertForSequenceClassification",
        {**BERT, "local_attention": 8, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "esm": Tiny("ESM", "EsmModel", {**BERT, "position_embedding_type": "rotary", "pad_token_id": 1}),
    "xlnet": Tiny(
        "XLNet", "XLNetModel", {"vocab_size": VOCABULARY, "d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 96}
    ),
    "layoutlm": Tiny("LayoutLM", "LayoutLMModel", BERT),
    # decoders of text
    "gpt2": Tiny(
        "GPT-2",
        "GPT2LMHeadModel",
        {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 4, **NO_CACHE},
        rank=0,
    ),
    "gpt2_eager": Tiny(
        "GPT-2",
        "GPT2LMHeadModel",
        {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 4, **NO_CACHE},
        "input_ids,attention_mask",
        eager=True,
    ),
    "gpt_neo": Tiny(
        "GPT-Neo",
        "GPTNeoForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 48,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "intermediate_size": 96,
            "max_position_embeddings": 32,
            **NO_CACHE,
        },
    ),
    "gpt_neox": Tiny("GPT-NeoX", "GPTNeoXForCausalLM", {**BERT, "rotary_pct": 0.5, **NO_CACHE}),
    "gptj": Tiny(
        "GPT-J",
        "GPTJForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "n_positions": 32,
            "n_embd": 48,
            "n_layer": 2,
            "n_head": 4,
            "rotary_dim": 4,
            **NO_CACHE,
        },
    ),
    "gpt_bigcode": Tiny(
        "multi-query attention",
        "GPTBigCodeForCausalLM",
        {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 4, **NO_CACHE},
    ),
    "opt": Tiny(
        "OPT",
        "OPTForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "ffn_dim": 96,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "word_embed_proj_dim": 32,
            **NO_CACHE,
        },
    ),
    "bloom": Tiny(
        "BLOOM", "BloomForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 48, "n_layer": 2, "n_head": 4, **NO_CACHE}
    ),
    "falcon": Tiny("Falcon", "FalconForCausalLM", {**BERT, "new_decoder_architecture": False, **NO_CACHE}),
    "mpt": Tiny(
        "MPT",
        "MptForCausalLM",
        {"vocab_size": VOCABULARY, "d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 32, **NO_CACHE},
    ),
    "llama_gqa": Tiny("Llama, grouped queries", "LlamaForCausalLM", {**GROUPED, **NO_CACHE}, rank=0),
    "llama": Tiny("Llama", "LlamaForCausalLM", {**DECODER, **NO_CACHE}),
    "llama_mqa_eager": Tiny(
        "Llama, one key head",
        "LlamaForCausalLM",
        {**DECODER, "num_key_value_heads": 1, **NO_CACHE},
        "input_ids,attention_mask",
        eager=True,
    ),
    "mistral": Tiny("Mistral", "MistralForCausalLM", {**GROUPED, "sliding_window": 6, **NO_CACHE}),
    "qwen2": Tiny("Qwen2", "Qwen2ForCausalLM", {**GROUPED, **NO_CACHE}),
    "qwen3": Tiny("Qwen3", "Qwen3ForCausalLM", {**GROUPED, "head_dim": 16, **NO_CACHE}),
    "gemma": Tiny("Gemma", "GemmaForCausalLM", {**GROUPED, "head_dim": 16, **NO_CACHE}),
    "gemma2": Tiny("Gemma 2", "Gemma2ForCausalLM", {**GROUPED, "head_dim": 16, "sliding_window": 6, **NO_CACHE}),
    "gemma3": Tiny("Gemma 3", "Gemma3ForCausalLM", {**GROUPED, "head_dim": 16, "sliding_window": 6, **NO_CACHE}, config="Gemma3TextConfig"),
    "phi": Tiny("Phi", "PhiForCausalLM", {**DECODER, **NO_CACHE}),
    "phi3": Tiny("Phi-3, fused projections", "Phi3ForCausalLM", {**GROUPED, "pad_token_id": 0, **NO_CACHE}),
    "stablelm": Tiny("StableLM", "StableLmForCausalLM", {**GROUPED, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}, **NO_CACHE}),
    "cohere": Tiny("Cohere", "CohereForCausalLM", {**GROUPED, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **NO_CACHE}),
    "olmo2": Tiny("OLMo 2", "Olmo2ForCausalLM", {**GROUPED, "pad_token_id": 0, "eos_token_id": 2, **NO_CACHE}),
    "starcoder2": Tiny("StarCoder 2", "Starcoder2ForCausalLM", {**GROUPED, "bos_token_id": 1, "eos_token_id": 2, **NO_CACHE}),
    "mixtral": Tiny(
        "Mixtral", "MixtralForCausalLM", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, **NO_CACHE}
    ),
    "mamba": Tiny(
        "Mamba",
        "MambaForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 2,
            "time_step_rank": 4,
            **NO_CACHE,
        },
    ),
    "rwkv": Tiny(
        "RWKV",
        "RwkvForCausalLM",
        {"vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2, "context_length": 32, **NO_CACHE},
    ),
    # sequence to sequence
    "t5": Tiny("T5", "T5ForConditionalGeneration", {**T5, **NO_CACHE}, "input_ids,decoder_input_ids", rank=0),
    "t5_gated": Tiny(
        "T5 v1.1",
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, **NO_CACHE},
        "input_ids,decoder_input_ids",
    ),
    "bart": Tiny("BART", "BartForConditionalGeneration", {**SEQUENCE, **NO_CACHE}, "input_ids,decoder_input_ids"),
    "marian": Tiny(
        "Marian", "MarianMTModel", {**SEQUENCE, "pad_token_id": 1, **NO_CACHE}, "input_ids,decoder_input_ids"
    ),
    "pegasus": Tiny("Pegasus", "PegasusForConditionalGeneration", {**SEQUENCE, **NO_CACHE}, "input_ids,decoder_input_ids"),
    "m2m_100": Tiny("M2M-100", "M2M100ForConditionalGeneration", {**SEQUENCE, **NO_CACHE}, "input_ids,decoder_input_ids"),
    # speech and sound
    "whisper": Tiny(
        "Whisper",
        "WhisperForConditionalGeneration",
        {**{k: v for k, v in SEQUENCE.items() if k != "max_position_embeddings"}, "num_mel_bins": 16,
         "max_source_positions": 24, "max_target_positions": 32, "pad_token_id": 0, "bos_token_id": 1,
         "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None, **NO_CACHE},
        "input_features,decoder_input_ids",
        rank=0,
    ),
    "wav2vec2": Tiny("Wav2Vec2", "Wav2Vec2ForCTC", WAVE, "input_values", rank=1),
    "wav2vec2_layer_norm": Tiny(
        "Wav2Vec2, stable layer norm",
        "Wav2Vec2ForCTC",
        {**WAVE, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        "input_values",
    ),
    "hubert": Tiny("HuBERT", "HubertForCTC", WAVE, "input_values"),
    "wavlm": Tiny("WavLM", "WavLMForCTC", WAVE, "input_values"),
    "sew": Tiny("SEW", "SEWForCTC", {**WAVE, "squeeze_factor": 2}, "input_values"),
    "wav2vec2_conformer": Tiny("Conformer", "Wav2Vec2ConformerForCTC", {**WAVE, "position_embeddings_type": "rotary"}, "input_values"),
    "ast": Tiny(
        "Audio Spectrogram Transformer",
        "ASTForAudioClassification",
        {**{k: v for k, v in VISION.items() if k != "image_size"}, "max_length": 48, "num_mel_bins": 16,
         "frequency_stride": 8, "time_stride": 8},
        "input_spectrogram",
    ),
    "speech_to_text": Tiny(
        "Speech2Text",
        "Speech2TextForConditionalGeneration",
        {**{k: v for k, v in SEQUENCE.items() if k != "max_position_embeddings"}, "conv_channels": 32,
         "input_feat_per_channel": 16, "input_channels": 1, "max_source_positions": 64, "max_target_positions": 32, **NO_CACHE},
        "input_features_last,decoder_input_ids",
    ),
    "hifigan": Tiny(
        "HiFi-GAN vocoder",
        "SpeechT5HifiGan",
        {"model_in_dim": 16, "upsample_initial_channel": 32, "upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8],
         "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 3]]},
        "spectrogram",
        dynamic=False,
    ),
    "encodec": Tiny(
        "EnCodec",
        "EncodecModel",
        {"num_filters": 8, "hidden_size": 32, "codebook_size": 16, "codebook_dim": 32, "upsampling_ratios": [4, 2],
         "target_bandwidths": [6.0], "sampling_rate": 4000, "num_lstm_layers": 1},
        "input_values_channel",
        dynamic=False,
    ),
    # pictures
    "vit": Tiny("ViT", "ViTForImageClassification", VISION, "pixel_values", rank=1),
    "vit_eager": Tiny("ViT", "ViTForImageClassification", VISION, "pixel_values", eager=True),
    "deit": Tiny("DeiT", "DeiTForImageClassificationWithTeacher", VISION, "pixel_values"),
    "beit": Tiny(
        "BEiT",
        "BeitForImageClassification",
        {**VISION, "use_relative_position_bias": True, "use_shared_relative_position_bias": False},
        "pixel_values",
    ),
    "data2vec_vision": Tiny(
        "data2vec",
        "Data2VecVisionForImageClassification",
        {**VISION, "use_shared_relative_position_bias": True},
        "pixel_values",
    ),
    "swin": Tiny(
        "Swin",
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        "pixel_values",
        rank=1,
    ),
    "swinv2": Tiny(
        "Swin v2",
        "Swinv2ForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        "pixel_values",
    ),
    "swin2sr": Tiny(
        "Swin2SR",
        "Swin2SRForImageSuperResolution",
        {"image_size": 16, "patch_size": 1, "embed_dim": 24, "depths": [2], "num_heads": [2], "window_size": 4,
         "upscale": 2, "num_channels": 3},
        "pixel_values",
        side=16,
    ),
    "convnext": Tiny("ConvNeXt", "ConvNextForImageClassification", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}, "pixel_values", side=64, rank=1),
    "convnextv2": Tiny("ConvNeXt v2", "ConvNextV2ForImageClassification", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}, "pixel_values", side=64),
    "resnet": Tiny("ResNet", "ResNetForImageClassification", RESNET, "pixel_values", side=64),
    "segformer": Tiny(
        "SegFormer",
        "SegformerForSemanticSegmentation",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4],
         "decoder_hidden_size": 32, "num_labels": 5},
        "pixel_values",
        side=64,
        rank=1,
    ),
    "dinov2": Tiny("DINOv2", "Dinov2ForImageClassification", {**VISION, "mlp_ratio": 2}, "pixel_values"),
    "dinov2_swiglu": Tiny("DINOv2, SwiGLU", "Dinov2Model", {**VISION, "mlp_ratio": 2, "use_swiglu_ffn": True}, "pixel_values"),
    "dinov3_vit": Tiny("DINOv3", "DINOv3ViTModel", {**VISION, "num_register_tokens": 2}, "pixel_values"),
    "pvt": Tiny(
        "PVT",
        "PvtForImageClassification",
        {"image_size": 64, "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4]},
        "pixel_values",
        side=64,
    ),
    "poolformer": Tiny(
        "PoolFormer",
        "PoolFormerForImageClassification",
        {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]},
        "pixel_values",
        side=64,
    ),
    "levit": Tiny(
        "LeViT",
        "LevitForImageClassification",
        {"image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]},
        "pixel_values",
        side=64,
    ),
    "cvt": Tiny(
        "CvT",
        "CvtForImageClassification",
        {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
        "pixel_values",
        side=64,
    ),
    "mobilevit": Tiny(
        "MobileViT",
        "MobileViTForImageClassification",
        {"image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 16, 16, 24, 24, 32, 64],
         "num_attention_heads": 4, "num_labels": 10},
        "pixel_values",
        side=64,
    ),
    "vit_mae": Tiny(
        "MAE encoder", "ViTMAEModel", {**VISION, "mask_ratio": 0.0}, "pixel_values", dynamic=False
    ),
    "dpt": Tiny(
        "DPT",
        "DPTForSemanticSegmentation",
        {**VISION, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [16, 16, 24, 24],
         "fusion_hidden_size": 16, "reassemble_factors": [4, 2, 1, 0.5]},
        "pixel_values",
    ),
    "glpn": Tiny(
        "GLPN",
        "GLPNForDepthEstimation",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4],
         "decoder_hidden_size": 16},
        "pixel_values",
        side=64,
    ),
    "videomae": Tiny(
        "VideoMAE",
        "VideoMAEForVideoClassification",
        {**VISION, "num_frames": 4, "tubelet_size": 2},
        "pixel_video",
    ),
    "timesformer": Tiny("TimeSformer", "TimesformerForVideoClassification", {**VISION, "num_frames": 4}, "pixel_video"),
    "vivit": Tiny("ViViT", "VivitForVideoClassification", {**VISION, "num_frames": 4, "tubelet_size": [2, 8, 8]}, "pixel_video"),
    "superpoint": Tiny(
        "SuperPoint encoder",
        "SuperPointForKeypointDetection",
        {},
        "pixel_values",
        failure="finds a number of key points that depends on the data, which no exporter can write",
    ),
    # detection and segmentation
    "detr": Tiny(
        "DETR",
        "DetrForObjectDetection",
        {**{k: v for k, v in SEQUENCE.items() if k not in ("vocab_size", "max_position_embeddings")}, "num_queries": 6,
         "num_labels": 4, "use_timm_backbone": False, "backbone_config": RESNET},
        "pixel_values",
        side=64,
        rank=0,
    ),
    "conditional_detr": Tiny(
        "Conditional DETR",
        "ConditionalDetrForObjectDetection",
        {**{k: v for k, v in SEQUENCE.items() if k not in ("vocab_size", "max_position_embeddings")}, "num_queries": 6,
         "num_labels": 4, "use_timm_backbone": False, "backbone_config": RESNET},
        "pixel_values",
        side=64,
    ),
    "deformable_detr": Tiny(
        "Deformable DETR",
        "DeformableDetrForObjectDetection",
        {**{k: v for k, v in SEQUENCE.items() if k not in ("vocab_size", "max_position_embeddings")}, "d_model": 64, "num_queries": 6,
         "num_labels": 4, "use_timm_backbone": False, "backbone_config": RESNET, "num_feature_levels": 4,
         "disable_custom_kernels": True},
        "pixel_values",
        side=64,
        dynamic=False,
    ),
    "rt_detr": Tiny(
        "RT-DETR",
        "RTDetrForObjectDetection",
        {"backbone_config": {"model_type": "rt_detr_resnet", **RESNET, "out_features": ["stage2", "stage3", "stage4"]},
         "encoder_hidden_dim": 32, "encoder_in_channels": [24, 32, 48], "encoder_ffn_dim": 48,
         "encoder_attention_heads": 4, "d_model": 32, "num_queries": 6, "decoder_in_channels": [32, 32, 32],
         "decoder_ffn_dim": 48, "decoder_layers": 2, "decoder_attention_heads": 4, "num_denoising": 0, "num_labels": 4,
         "hidden_expansion": 1.0, "disable_custom_kernels": True},
        "pixel_values",
        side=64,
        dynamic=False,
    ),
    "yolos": Tiny("YOLOS", "YolosForObjectDetection", {**VISION, "image_size": [32, 32], "num_detection_tokens": 5, "num_labels": 4}, "pixel_values"),
    "sam_encoder": Tiny(
        "SAM encoder",
        "SamVisionModel",
        {**{k: v for k, v in VISION.items() if k != "intermediate_size"}, "mlp_dim": 96, "window_size": 3,
         "global_attn_indexes": [1], "output_channels": 24, "use_rel_pos": True, "num_pos_feats": 12},
        "pixel_values",
        rank=1,
    ),
    "maskformer_swin": Tiny(
        "MaskFormer backbone",
        "MaskFormerSwinModel",
        {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        "pixel_values",
        dynamic=False,
    ),
    "upernet": Tiny(
        "UPerNet",
        "UperNetForSemanticSegmentation",
        {"backbone_config": {"model_type": "convnext", "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1],
                             "out_features": ["stage1", "stage2", "stage3", "stage4"]},
         "hidden_size": 24, "pool_scales": [1, 2], "auxiliary_in_channels": 32, "auxiliary_channels": 16, "num_labels": 5},
        "pixel_values",
        side=64,
    ),
    # pictures and text
    "clip": Tiny(
        "CLIP",
        "CLIPModel",
        {"text_config": CLIP_TEXT, "vision_config": {**VISION, "projection_dim": 32}, "projection_dim": 32},
        "input_ids,pixel_values",
        rank=1,
    ),
    "clip_vision": Tiny("CLIP vision", "CLIPVisionModelWithProjection", {**VISION, "projection_dim": 32}, "pixel_values"),
    "siglip": Tiny(
        "SigLIP",
        "SiglipModel",
        {"text_config": {**BERT, "max_position_embeddings": 16, "projection_size": 48}, "vision_config": VISION},
        "input_ids,pixel_values",
    ),
    "vilt": Tiny("ViLT", "ViltModel", {**BERT, **VISION}, "input_ids,pixel_values", dynamic=False,
        failure="chooses patches by data-dependent sampling"),
    "blip_vision": Tiny("BLIP vision", "BlipVisionModel", VISION, "pixel_values"),
}

FIELDS = ("logits", "pred_boxes", "last_hidden_state", "logits_per_image", "predicted_depth", "image_embeds",
          "reconstruction", "audio_values", "pooler_output", "waveform", "cls_logits", "distillation_logits")


def _example(kind: str, side: int) -> torch.Tensor:
    import torch

    if kind in ("input_ids", "decoder_input_ids"):
        return torch.randint(3, VOCABULARY, (BATCH, TOKENS if kind == "input_ids" else 7))
    if kind == "attention_mask":
        mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
        mask[1, -3:] = 0
        return mask
    shapes = {
        "pixel_values": (BATCH, 3, side, side),
        "pixel_video": (BATCH, 4, 3, side, side),
        "input_values": (BATCH, 800),
        "input_values_channel": (1, 1, 320),
        "input_features": (BATCH, 16, 48),
        "input_features_last": (BATCH, 48, 16),
        "input_spectrogram": (BATCH, 48, 16),
        "spectrogram": (BATCH, 10, 16),
    }
    return torch.randn(*shapes[kind])


ARGUMENT = {
    "pixel_video": "pixel_values",
    "input_values_channel": "input_values",
    "input_features_last": "input_features",
    "input_spectrogram": "input_values",
}


def _build(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torch
    import transformers

    tiny = TABLE[name]
    kinds = tiny.inputs.split(",")
    kind = getattr(transformers, tiny.model)
    configuration = getattr(transformers, tiny.config) if tiny.config else kind.config_class
    options = dict(tiny.options)
    if isinstance(options.get("backbone_config"), dict):
        backbone = dict(options["backbone_config"])
        options["backbone_config"] = transformers.AutoConfig.for_model(backbone.pop("model_type", "resnet"), **backbone)
        if "out_features" not in backbone:
            options["backbone_config"].out_features = ["stage2", "stage3", "stage4"][-1 if "deformable" not in name else 0 :]
    config = configuration(**options)
    config._attn_implementation = "eager" if tiny.eager else config._attn_implementation

    class Named(torch.nn.Module):
        """Positional inputs, tensors out."""

        def __init__(self) -> None:
            super().__init__()
            self.model = kind(config)

        def forward(self, first: torch.Tensor, second: torch.Tensor | None = None) -> Any:
            inputs = {ARGUMENT.get(k, k): v for k, v in zip(kinds, (first, second), strict=False)}
            found = self.model(**inputs)
            if isinstance(found, torch.Tensor):
                return found
            return tuple(found[field] for field in FIELDS if found.get(field) is not None)

    return Named(), tuple(_example(k, tiny.side) for k in kinds)


def entries() -> list[Entry]:
    """The entries of this file."""
    old = {"bert", "gpt2_eager", "vit", "t5", "segformer", "convnext", "bert_mask", "swin"}
    return [
        Entry(
            f"hf_{name}",
            "transformers",
            tiny.family,
            build=lambda name=name: _build(name),  # type: ignore[misc]
            dynamic=(0,) * len(tiny.inputs.split(",")) if tiny.dynamic else None,
            old=name in old,
            failure=tiny.failure,
            rank=tiny.rank,
        )
        for name, tiny in TABLE.items()
    ]
