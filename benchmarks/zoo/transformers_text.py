"""transformers: text."""

from __future__ import annotations

from zoo.transformers_options import BERT, DECODER, GROUPED, NO_CACHE, SEQUENCE, T5, VOCABULARY, Tiny

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
        "Nystromformer", "NystromformerModel", {**BERT, "segment_means_seq_len": 12, "num_landmarks": 12}
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
        "BLOOM",
        "BloomForCausalLM",
        {"vocab_size": VOCABULARY, "hidden_size": 48, "n_layer": 2, "n_head": 4, **NO_CACHE},
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
    "gemma3": Tiny(
        "Gemma 3",
        "Gemma3ForCausalLM",
        {**GROUPED, "head_dim": 16, "sliding_window": 6, **NO_CACHE},
        config="Gemma3TextConfig",
    ),
    "phi": Tiny("Phi", "PhiForCausalLM", {**DECODER, **NO_CACHE}),
    "phi3": Tiny("Phi-3, fused projections", "Phi3ForCausalLM", {**GROUPED, "pad_token_id": 0, **NO_CACHE}),
    "stablelm": Tiny(
        "StableLM",
        "StableLmForCausalLM",
        {
            **GROUPED,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
            **NO_CACHE,
        },
    ),
    "cohere": Tiny(
        "Cohere", "CohereForCausalLM", {**GROUPED, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **NO_CACHE}
    ),
    "olmo2": Tiny("OLMo 2", "Olmo2ForCausalLM", {**GROUPED, "pad_token_id": 0, "eos_token_id": 2, **NO_CACHE}),
    "starcoder2": Tiny(
        "StarCoder 2", "Starcoder2ForCausalLM", {**GROUPED, "bos_token_id": 1, "eos_token_id": 2, **NO_CACHE}
    ),
    "mixtral": Tiny(
        "Mixtral",
        "MixtralForCausalLM",
        {
            **GROUPED,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            **NO_CACHE,
            "experts_implementation": "batched_mm",
        },
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
    "pegasus": Tiny(
        "Pegasus", "PegasusForConditionalGeneration", {**SEQUENCE, **NO_CACHE}, "input_ids,decoder_input_ids"
    ),
    "m2m_100": Tiny(
        "M2M-100", "M2M100ForConditionalGeneration", {**SEQUENCE, **NO_CACHE}, "input_ids,decoder_input_ids"
    ),
}
