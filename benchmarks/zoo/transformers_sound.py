"""transformers: speech and sound."""

from __future__ import annotations

from zoo.transformers_options import NO_CACHE, SPEECH, VISION, WAVE, Tiny

TABLE: dict[str, Tiny] = {
    # speech and sound
    "whisper": Tiny(
        "Whisper",
        "WhisperForConditionalGeneration",
        {
            **SPEECH,
            "num_mel_bins": 16,
            "max_source_positions": 24,
            "max_target_positions": 32,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
            **NO_CACHE,
        },
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
    "wav2vec2_conformer": Tiny(
        "Conformer", "Wav2Vec2ConformerForCTC", {**WAVE, "position_embeddings_type": "rotary"}, "input_values"
    ),
    "ast": Tiny(
        "Audio Spectrogram Transformer",
        "ASTForAudioClassification",
        {
            **{k: v for k, v in VISION.items() if k != "image_size"},
            "max_length": 48,
            "num_mel_bins": 16,
            "frequency_stride": 8,
            "time_stride": 8,
        },
        "input_spectrogram",
    ),
    "speech_to_text": Tiny(
        "Speech2Text",
        "Speech2TextForConditionalGeneration",
        {
            **SPEECH,
            "conv_channels": 32,
            "input_feat_per_channel": 16,
            "input_channels": 1,
            "max_source_positions": 64,
            "max_target_positions": 32,
            **NO_CACHE,
        },
        "input_features_last,decoder_input_ids",
    ),
    "hifigan": Tiny(
        "HiFi-GAN vocoder",
        "SpeechT5HifiGan",
        {
            "model_in_dim": 16,
            "upsample_initial_channel": 32,
            "upsample_rates": [4, 4],
            "upsample_kernel_sizes": [8, 8],
            "resblock_kernel_sizes": [3, 5],
            "resblock_dilation_sizes": [[1, 3], [1, 3]],
        },
        "spectrogram",
        dynamic=False,
    ),
    "encodec": Tiny(
        "EnCodec",
        "EncodecModel",
        {
            "num_filters": 8,
            "hidden_size": 32,
            "codebook_size": 16,
            "codebook_dim": 32,
            "upsampling_ratios": [4, 2],
            "target_bandwidths": [6.0],
            "sampling_rate": 4000,
            "num_lstm_layers": 1,
        },
        "input_values_channel",
        dynamic=False,
    ),
}
