"""Operators whose axes stay whole on purpose, each with the reason that the ledger gives."""

from __future__ import annotations

from types import MappingProxyType

_RANDOM = "draws random numbers, which are others for another shape"
_SOURCE = "makes a tensor out of numbers alone"
_SEQUENCE = "handles a sequence of tensors"
_OPTIONAL = "handles a tensor that may be missing"
_TEXT = "handles text"
_POSITIONS = "its result holds positions in the whole tensor"
_NEW = "ONNX Runtime does not run it yet, so that no cut of it can be checked"
_LOSS = "a loss of training, over all classes"

_BODY = "read inside a body that runs by condition or in a loop"
_BLOCKS = "channels lie in blocks; compile the model as it was before the runtime laid it out"
_FUSED = "quantised and fused: its weights are laid out for one kernel"

NCHWC = (
    "Conv",
    "MaxPool",
    "AveragePool",
    "GlobalMaxPool",
    "GlobalAveragePool",
    "ReorderInput",
    "ReorderOutput",
    "Upsample",
)
LOCKED = MappingProxyType(
    {
        **dict.fromkeys(("If", "Loop", "Scan", "amcc.Branch"), _BODY),
        **{f"com.microsoft.nchwc.{op}": _BLOCKS for op in NCHWC},
        **{f"com.microsoft.{op}": _FUSED for op in ("QAttention", "QEmbedLayerNormalization")},
        "Bernoulli": _RANDOM,
        "Multinomial": _RANDOM,
        "RandomNormal": _RANDOM,
        "RandomNormalLike": _RANDOM,
        "RandomUniform": _RANDOM,
        "RandomUniformLike": _RANDOM,
        "BlackmanWindow": _SOURCE,
        "Constant": _SOURCE,
        "HammingWindow": _SOURCE,
        "HannWindow": _SOURCE,
        "MelWeightMatrix": _SOURCE,
        "ConcatFromSequence": _SEQUENCE,
        "SequenceAt": _SEQUENCE,
        "SequenceConstruct": _SEQUENCE,
        "SequenceEmpty": _SEQUENCE,
        "SequenceErase": _SEQUENCE,
        "SequenceInsert": _SEQUENCE,
        "SequenceLength": _SEQUENCE,
        "SequenceMap": _SEQUENCE,
        "SplitToSequence": _SEQUENCE,
        "Optional": _OPTIONAL,
        "OptionalGetElement": _OPTIONAL,
        "OptionalHasElement": _OPTIONAL,
        "RegexFullMatch": _TEXT,
        "StringConcat": _TEXT,
        "StringNormalizer": _TEXT,
        "StringSplit": _TEXT,
        "TfIdfVectorizer": _TEXT,
        "ImageDecoder": "decodes a picture, whose shape is data",
        "NonMaxSuppression": "its result holds numbers of classes and boxes",
        "NonZero": _POSITIONS,
        "Unique": "compares everything with everything; the length of its result is data",
        "EyeLike": "writes ones at equal positions of both axes",
        **dict.fromkeys(("CausalConvWithState", "LinearAttention", "SwiGLU"), _NEW),
        "NegativeLogLikelihoodLoss": _LOSS,
        "SoftmaxCrossEntropyLoss": _LOSS,
    }
)
