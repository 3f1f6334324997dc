"""What the tiny configurations of transformers' architectures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


SPEECH = {key: value for key, value in SEQUENCE.items() if key != "max_position_embeddings"}
QUERIES = {
    **{key: value for key, value in SPEECH.items() if key != "vocab_size"},
    "num_queries": 6,
    "num_labels": 4,
    "use_timm_backbone": False,
    "backbone_config": RESNET,
}


@dataclass(frozen=True)
class Tiny:
    """A configuration.

    Attributes:
        family: What it stands for.
        model: Class of the model.
        options: Of the configuration.
        inputs: Kinds of input that `transformers_models` knows, separated by commas.
        side: Of the picture.
        eager: Attention spelled out, instead of PyTorch's fused one.
        dynamic: Whether the batch may be dynamic.
        config: Class of the configuration where it is not the model's own.
        rank: Order of export.
        failure: Why it cannot be exported, where it cannot.
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
