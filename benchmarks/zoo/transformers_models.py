"""transformers: the architectures in tiny configurations, built from the tables beside this file."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo import operators, transformers_sound, transformers_text, transformers_vision
from zoo.entry import BATCH, Entry
from zoo.transformers_options import TOKENS, VOCABULARY

if TYPE_CHECKING:
    import torch

TABLE = {**transformers_text.TABLE, **transformers_sound.TABLE, **transformers_vision.TABLE}

FIELDS = (
    "logits",
    "pred_boxes",
    "last_hidden_state",
    "logits_per_image",
    "predicted_depth",
    "image_embeds",
    "reconstruction",
    "audio_values",
    "pooler_output",
    "waveform",
    "cls_logits",
    "distillation_logits",
)


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
            options["backbone_config"].out_features = ["stage2", "stage3", "stage4"][
                -1 if "deformable" not in name else 0 :
            ]
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
            build=partial(_build, name),
            dynamic=(0,) * len(tiny.inputs.split(",")) if tiny.dynamic else None,
            old=name in old,
            failure=tiny.failure,
            rank=tiny.rank,
        )
        for name, tiny in TABLE.items()
    ]
