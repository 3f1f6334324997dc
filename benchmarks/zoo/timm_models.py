"""timm: a small variant of each of its model families, several where a family holds distinct architectures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo import operators
from zoo.entry import BATCH, Entry

if TYPE_CHECKING:
    import torch

CLASSES = 10


def _vit(side: int = 64, depth: int = 3, **options: Any) -> dict[str, Any]:
    return {"img_size": side, "depth": depth, **options}


# architecture: (family, picture side, further arguments). "class" builds that class of timm.models instead of the
# architecture, where the latter cannot be made smaller; "@module.name" stands for a thing in timm.models; "fused":
# False spells attention out, where the exporter cannot take PyTorch's operator.
METAFORMER = {"class": "metaformer.MetaFormer", "depths": (1, 1, 2, 1), "dims": (32, 64, 96, 128)}
MIXER = {"class": "mlp_mixer.MlpMixer", "img_size": 64, "num_blocks": 3, "embed_dim": 96}

CONVOLUTIONAL: dict[str, tuple[str, int, dict[str, Any]]] = {
    "test_byobnet": ("ByobNet", 64, {}),
    "mobileone_s0": ("MobileOne", 64, {}),
    "gernet_s": ("GENet", 64, {}),
    "repvgg_a0": ("RepVGG", 64, {}),
    "regnetz_b16": ("RegNetZ", 64, {}),
    "resnext26ts": ("ResNeXt-ts", 64, {}),
    "gcresnext26ts": ("GC-ResNeXt", 64, {}),
    "eca_resnext26ts": ("ECA-ResNeXt", 64, {}),
    "bat_resnext26ts": ("BAT-ResNeXt", 256, {}),
    "halonet_h1": ("HaloNet", 256, {}),
    "lambda_resnet26t": ("LambdaNetwork", 64, {}),
    "lambda_resnet26rpt_256": ("LambdaNetwork, relative positions", 128, {"img_size": 128}),
    "botnet26t_256": ("BoTNet", 128, {"img_size": 128}),
    "eca_botnext26ts_256": ("ECA-BoTNeXt", 128, {"img_size": 128}),
    "eca_halonext26ts": ("ECA-HaloNeXt", 256, {}),
    "convmixer_768_32": (
        "ConvMixer",
        64,
        {"class": "convmixer.ConvMixer", "dim": 64, "depth": 4, "kernel_size": 7, "patch_size": 4},
    ),
    "test_convnext": ("ConvNeXt", 64, {}),
    "test_convnext3": ("ConvNeXt, other options", 64, {}),
    "convnext_zepto_rms": ("ConvNeXt, RMSNorm", 64, {}),
    "convnextv2_atto": ("ConvNeXt v2", 64, {}),
    "cpubone_nano": ("CPUBone", 64, {}),
    "csatv2": ("CSATv2", 128, {}),
    "cs3darknet_focus_s": ("CS3DarkNet, focus stem", 64, {}),
    "cs3darknet_s": ("CS3DarkNet", 64, {}),
    "darknet17": ("DarkNet", 64, {}),
    "cspresnext50": ("CSPResNeXt", 64, {}),
    "sedarknet21": ("SE-DarkNet", 64, {}),
    "cspnext_tiny": ("CSPNeXt", 64, {}),
    "densenet121": ("DenseNet", 64, {}),
    "densenetblur121d": ("DenseNet, blur pool", 64, {"growth_rate": 8, "block_config": (3, 3, 3, 3)}),
    "dla46_c": ("DLA", 64, {}),
    "dla46x_c": ("DLA-X", 64, {}),
    "dla60_res2net": ("DLA-Res2Net", 64, {}),
    "dla60_res2next": ("DLA-Res2NeXt", 64, {}),
    "dpn48b": ("DPN", 64, {}),
    "dpn68": ("DPN", 64, {}),
    "test_efficientnet": ("EfficientNet", 64, {}),
    "test_efficientnet_gn": ("EfficientNet, GroupNorm", 64, {}),
    "test_efficientnet_ln": ("EfficientNet, LayerNorm", 64, {}),
    "test_efficientnet_evos": ("EfficientNet, EvoNorm", 64, {}),
    "mobilenetv1_100": ("MobileNet v1", 64, {}),
    "mobilenetv2_035": ("MobileNet v2", 64, {}),
    "mnasnet_small": ("MNASNet", 64, {}),
    "semnasnet_050": ("SE-MNASNet", 64, {}),
    "tinynet_e": ("TinyNet", 64, {}),
    "fbnetc_100": ("FBNet", 64, {}),
    "spnasnet_100": ("Single-Path NAS", 64, {}),
    "mixnet_s": ("MixNet", 64, {}),
    "efficientnet_lite0": ("EfficientNet-Lite", 64, {}),
    "efficientnet_es": ("EfficientNet-EdgeTPU", 64, {}),
    "efficientnet_cc_b0_4e": ("CondConv EfficientNet", 64, {}),
    "efficientnetv2_rw_t": ("EfficientNetV2", 64, {}),
    "tf_efficientnet_b0": ("EfficientNet, TensorFlow padding", 64, {}),
    "tf_mixnet_s": ("MixNet, TensorFlow padding", 64, {}),
    "mobilenet_edgetpu_100": ("MobileNet-EdgeTPU", 64, {}),
    "fasternet_t0": ("FasterNet", 64, {}),
    "ghostnet_050": ("GhostNet", 64, {}),
    "ghostnetv2_100": ("GhostNet v2", 64, {}),
    "ghostnetv3_050": ("GhostNet v3", 64, {}),
    "hardcorenas_a": ("HardCoReNAS", 64, {}),
    "hgnetv2_b0": ("HGNet v2", 64, {}),
    "hgnet_tiny": ("HGNet", 64, {}),
    "hrnet_w18_small": ("HRNet", 64, {}),
    "inception_next_atto": ("InceptionNeXt", 64, {}),
    "inception_v3": ("Inception v3", 96, {}),
    "inception_v4": ("Inception v4", 96, {}),
    "inception_resnet_v2": ("Inception-ResNet v2", 96, {}),
    "lcnetv2_small": ("LCNet v2", 64, {}),
    "lcnet_035": ("LCNet", 64, {}),
    "mobilenetv3_small_050": ("MobileNet v3", 64, {}),
    "tf_mobilenetv3_small_minimal_100": ("MobileNet v3 minimal", 64, {}),
    "mobilenetv4_conv_small_035": ("MobileNet v4", 64, {}),
    "mobilenetv4_hybrid_medium": ("MobileNet v4 hybrid", 64, {}),
    "fbnetv3_b": ("FBNet v3", 64, {}),
    "nasnetalarge": ("NASNet", 96, {"class": "nasnet.NASNetALarge", "stem_size": 24, "num_features": 960}),
    "pnasnet5large": ("PNASNet", 96, {}),
    "test_nfnet": ("NFNet", 64, {}),
    "nf_regnet_b0": ("NF-RegNet", 64, {}),
    "nf_resnet26": ("NF-ResNet", 64, {}),
    "eca_nfnet_l0": ("ECA-NFNet", 64, {}),
    "rdnet_tiny": ("RDNet", 64, {}),
    "regnetx_002": ("RegNetX", 64, {}),
    "regnety_002": ("RegNetY", 64, {}),
    "repghostnet_050": ("RepGhost", 64, {}),
    "repvit_m0_9": ("RepViT", 64, {}),
    "res2net50_14w_8s": ("Res2Net", 64, {"layers": (1, 1, 1, 1)}),
    "res2next50": ("Res2NeXt", 64, {}),
    "resnest14d": ("ResNeSt", 64, {}),
    "test_resnet": ("ResNet", 64, {}),
    "resnet10t": ("ResNet-T", 64, {}),
    "resnetblur18": ("ResNet, blur pool", 64, {}),
    "ecaresnext26t_32x4d": ("ECA-ResNeXt-T", 64, {}),
    "seresnet18": ("SE-ResNet", 64, {}),
    "resnetrs50": ("ResNet-RS", 64, {}),
    "resnetv2_18": ("ResNet v2", 64, {}),
    "resnetv2_50x1_bit": (
        "BiT",
        64,
        {
            "class": "resnetv2.ResNetV2",
            "layers": [1, 1, 1, 1],
            "stem_type": "fixed",
            "conv_layer": "@resnetv2.StdConv2d",
        },
    ),
    "resnetv2_50d_evos": ("ResNet v2, EvoNorm", 64, {}),
    "resnetv2_50d_gn": ("ResNet v2, GroupNorm", 64, {}),
    "rexnet_100": ("ReXNet", 64, {}),
    "rexnetr_100": ("ReXNet-R", 64, {}),
    "selecsls42": ("SelecSLS", 64, {}),
    "legacy_seresnet18": ("SENet", 64, {}),
    "legacy_seresnext26_32x4d": ("SE-ResNeXt", 64, {}),
    "skresnet18": ("SKNet", 64, {}),
    "skresnext50_32x4d": ("SK-ResNeXt", 64, {}),
    "starnet_s050": ("StarNet", 64, {}),
    "tresnet_m": ("TResNet", 64, {}),
    "ese_vovnet19b_slim": ("VoVNet", 64, {}),
    "ese_vovnet19b_slim_dw": ("VoVNet, depthwise", 64, {}),
    "legacy_xception": ("Xception", 96, {}),
    "xception41p": ("Aligned Xception, pre-activation", 64, {}),
    "test_mambaout": ("MambaOut", 64, {}),
}

ATTENTIONAL: dict[str, tuple[str, int, dict[str, Any]]] = {
    "beit_base_patch16_224": ("BEiT", 64, _vit(embed_dim=96, num_heads=3)),
    "cait_xxs24_224": ("CaiT", 64, _vit(depth=4)),
    "coat_tiny": ("CoaT", 64, {"img_size": 64}),
    "coat_lite_tiny": ("CoaT-Lite", 64, {"img_size": 64}),
    "convit_tiny": ("ConViT", 64, _vit(depth=4, local_up_to_layer=2)),
    "crossvit_tiny_240": ("CrossViT", 240, {}),
    "crossvit_9_dagger_240": ("CrossViT dagger", 240, {}),
    "davit_tiny": (
        "DaViT",
        64,
        {"depths": (1, 1, 1, 1), "embed_dims": (32, 64, 96, 128), "num_heads": (1, 2, 3, 4)},
    ),
    "deepseek_vit_412m": ("DeepSeek ViT", 84, {"embed_dim": 96, "depth": 2, "num_heads": 3}),
    "deit_tiny_patch16_224": ("DeiT", 64, _vit()),
    "deit_tiny_distilled_patch16_224": ("DeiT distilled", 64, _vit()),
    "deit3_small_patch16_224": ("DeiT III", 64, _vit(depth=2)),
    "edgenext_xx_small": ("EdgeNeXt", 64, {}),
    "efficientformer_l1": ("EfficientFormer", 224, {}),
    "efficientformerv2_s0": ("EfficientFormer v2", 224, {}),
    "efficientvim_m1": ("EfficientViM", 64, {}),
    "efficientvit_b0": ("EfficientViT (MIT)", 64, {}),
    "efficientvit_m0": ("EfficientViT (MSRA)", 224, {}),
    "eva02_tiny_patch14_224": ("EVA-02", 56, _vit(side=56)),
    "vit_tiny_patch16_dinov3_qkvb": ("DINOv3", 64, _vit()),
    "vit_pe_spatial_tiny_patch16_512": ("Perception Encoder", 64, _vit()),
    "vit_small_patch16_rope_224": ("ViT, rotary", 64, _vit(depth=2)),
    "fastvit_t8": ("FastViT", 64, {}),
    "fastvit_sa12": ("FastViT, attention", 64, {}),
    "focalnet_tiny_srf": ("FocalNet", 64, {"class": "focalnet.FocalNet", "embed_dim": 32, "depths": (1, 1, 2, 1)}),
    "gcvit_xxtiny": ("GCViT", 224, {}),
    "gemma4_vit_167m": ("Gemma 4 ViT", 96, {"embed_dim": 96, "depth": 2, "num_heads": 3}),
    "hiera_tiny_224": ("Hiera", 224, {"embed_dim": 32, "stages": (1, 1, 2, 1), "fused": False}),
    "hieradet_small": ("HieraDet (SAM 2)", 128, {"embed_dim": 32, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)}),
    "iformer_t": ("iFormer", 64, {}),
    "levit_128s": ("LeViT", 224, {}),
    "levit_conv_128s": ("LeViT, convolutional", 224, {}),
    "lowformer_b0": ("LowFormer", 64, {}),
    "test_coatnet": ("CoAtNet", 160, {}),
    "test_maxvit": ("MaxViT", 160, {}),
    "coatnext_nano_rw_224": ("CoAtNeXt", 64, {"img_size": 64}),
    "coatnet_rmlp_nano_rw_224": ("CoAtNet, relative MLP", 64, {"img_size": 64}),
    "maxvit_rmlp_pico_rw_256": ("MaxViT, relative MLP", 64, {"img_size": 64}),
    "maxxvit_rmlp_nano_rw_256": ("MaxxViT", 64, {"img_size": 64}),
    "poolformer_s12": ("PoolFormer", 64, {}),
    "poolformerv2_s12": ("PoolFormer v2", 64, {}),
    "convformer_s18": (
        "ConvFormer",
        64,
        {
            **METAFORMER,
            "token_mixers": "@metaformer.SepConv",
            "norm_layers": "@metaformer.LayerNorm2dNoBias",
        },
    ),
    "caformer_s18": (
        "CAFormer",
        64,
        {
            **METAFORMER,
            "token_mixers": ["@metaformer.SepConv"] * 2 + ["@metaformer.Attention"] * 2,
            "norm_layers": ["@metaformer.LayerNorm2dNoBias"] * 2 + ["@metaformer.LayerNormNoBias"] * 2,
        },
    ),
    "gmlp_ti16_224": (
        "gMLP",
        64,
        {**MIXER, "mlp_ratio": 6, "block_layer": "@mlp_mixer.SpatialGatingBlock", "mlp_layer": "@mlp_mixer.GatedMlp"},
    ),
    "gmixer_12_224": ("gMixer", 64, {**MIXER, "mlp_layer": "@mlp_mixer.GluMlp", "mlp_ratio": (1.0, 4.0)}),
    "resmlp_12_224": (
        "ResMLP",
        64,
        {**MIXER, "mlp_ratio": 4, "block_layer": "@mlp_mixer.ResBlock", "norm_layer": "@mlp_mixer.Affine"},
    ),
    "mixer_s16_224": ("MLP-Mixer", 64, MIXER),
    "mobilenetv5_base": ("MobileNet v5", 64, {}),
    "mobilevit_xxs": ("MobileViT", 64, {}),
    "mobilevitv2_050": ("MobileViT v2", 64, {}),
    "mvitv2_tiny": (
        "MViT v2",
        64,
        {
            "class": "mvitv2.MultiScaleVit",
            "img_size": 64,
            "cfg": ("@mvitv2.MultiScaleVitCfg", {"depths": (1, 1, 2, 1), "embed_dim": 32, "num_heads": 1}),
        },
    ),
    "naflexvit_base_patch16_gap": ("NaFlexViT", 64, {"depth": 2, "embed_dim": 96, "num_heads": 3}),
    "nest_tiny": (
        "NesT",
        64,
        {
            "class": "nest.Nest",
            "img_size": 64,
            "embed_dims": (32, 64, 96),
            "num_heads": (1, 2, 3),
            "depths": (1, 1, 2),
            "fused": False,
        },
    ),
    "nextvit_small": ("Next-ViT", 64, {"depths": (1, 1, 5, 1)}),
    "pit_ti_224": ("PiT", 64, {"img_size": 64}),
    "pit_ti_distilled_224": ("PiT distilled", 64, {"img_size": 64}),
    "pvt_v2_b0": ("PVT v2", 64, {}),
    "pvt_v2_b2_li": ("PVT v2, linear", 64, {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 80, 128)}),
    "qwen3_vit_88m": ("Qwen3 ViT", 64, {"embed_dim": 96, "depth": 2, "num_heads": 3}),
    "sequencer2d_s": ("Sequencer", 64, {"layers": [1, 1, 1, 1], "img_size": 64}),
    "shvit_s1": ("SHViT", 64, {}),
    "swiftformer_xs": ("SwiftFormer", 64, {}),
    "swin_tiny_patch4_window7_224": (
        "Swin",
        64,
        {"img_size": 64, "window_size": 4, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8)},
    ),
    "swin_s3_tiny_224": (
        "Swin S3",
        64,
        {"img_size": 64, "window_size": (4, 4, 2, 2), "depths": (2, 2, 2, 2), "embed_dim": 48},
    ),
    "swinv2_tiny_window8_256": (
        "Swin v2",
        64,
        {"img_size": 64, "window_size": 4, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8)},
    ),
    "swinv2_cr_tiny_ns_224": (
        "Swin v2-CR",
        64,
        {"img_size": 64, "window_size": 4, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8)},
    ),
    "tiny_vit_5m_224": ("TinyViT", 224, {}),
    "tnt_s_patch16_224": ("TNT", 64, _vit()),
    "tnt_s_legacy_patch16_224": ("TNT legacy", 64, _vit()),
    "twins_svt_small": ("Twins-SVT", 64, {"img_size": 64, "depths": [2, 2, 2, 2], "fused": False}),
    "twins_pcpvt_small": ("Twins-PCPVT", 64, {"img_size": 64, "depths": [1, 1, 1, 1]}),
    "visformer_tiny": ("Visformer", 64, {"img_size": 64}),
    "test_vit": ("ViT", 64, {"img_size": 64}),
    "test_vit2": ("ViT, other options", 64, {"img_size": 64}),
    "test_vit3": ("ViT, other options", 64, {"img_size": 64}),
    "test_vit4": ("ViT, other options", 64, {"img_size": 64}),
    "vit_tiny_r_s16_p8_224": ("ViT hybrid", 64, _vit()),
    "test_vit_relpos": ("ViT, relative positions", 64, {"img_size": 64}),
    "vit_srelpos_small_patch16_224": ("ViT, shared relative positions", 64, _vit(depth=2)),
    "vit_dpwee_patch16_reg1_gap_256": ("ViT, parallel", 64, _vit()),
    "samvit_base_patch16_224": ("SAM ViT", 64, _vit(depth=4, embed_dim=96, num_heads=3, fused=False)),
    "vitamin_small_224": ("ViTamin", 64, {"img_size": 64, "depth": 3}),
    "volo_d1_224": (
        "VOLO",
        64,
        {
            "class": "volo.VOLO",
            "img_size": 64,
            "layers": (1, 1, 2, 1),
            "embed_dims": (48, 96, 96, 96),
            "num_heads": (2, 4, 4, 4),
        },
    ),
    "xcit_nano_12_p16_224": ("XCiT", 64, _vit()),
}

LARGE = {"inception_v4", "inception_resnet_v2", "pnasnet5large", "mobilenetv5_base"}
SLOW = LARGE | {  # to export, minutes rather than seconds
    *("coat_tiny", "coat_lite_tiny", "crossvit_9_dagger_240", "dla60_res2net", "dla60_res2next", "dpn68"),
    *("efficientformer_l1", "efficientformerv2_s0", "efficientvim_m1", "efficientnetv2_rw_t", "fastvit_sa12"),
    *("gcvit_xxtiny", "ghostnetv2_100", "ghostnetv3_050", "halonet_h1", "hrnet_w18_small", "inception_v3"),
    *("maxvit_rmlp_pico_rw_256", "maxxvit_rmlp_nano_rw_256", "mixnet_s", "mobilenetv4_hybrid_medium", "nasnetalarge"),
    *("rdnet_tiny", "res2next50", "resnetrs50", "resnetv2_50d_evos", "resnetv2_50d_gn", "skresnext50_32x4d"),
    *("swiftformer_xs", "tf_mixnet_s", "tiny_vit_5m_224", "tresnet_m", "xception41p", "eca_nfnet_l0", "fbnetv3_b"),
}
FIRST = {
    "res2net50_14w_8s",
    "test_maxvit",
    "levit_128s",
    "skresnet18",
    "cs3darknet_s",
    "swin_tiny_patch4_window7_224",
    "xcit_nano_12_p16_224",
    "hiera_tiny_224",
}
FAILURES: dict[str, str] = {}


def _build(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import timm
    import torch

    _, side, given = (CONVOLUTIONAL | ATTENTIONAL)[name]
    options = dict(given)
    timm.layers.set_fused_attn(options.pop("fused", True))
    if "class" in options:
        options = {key: _resolved(value) for key, value in options.items()}
        made = _resolved("@" + options.pop("class"))(num_classes=CLASSES, **options)
    else:
        made = timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)
    return made, (torch.randn(BATCH, 3, side, side),)


def _resolved(value: Any) -> Any:
    """ "@module.name" looked up in timm.models; a pair of one and its arguments called."""
    import timm

    if isinstance(value, str) and value.startswith("@"):
        module, name = value[1:].split(".")
        return getattr(getattr(timm.models, module), name)
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return _resolved(value[0])(**value[1])
    return value


def entries() -> list[Entry]:
    """The entries of this file."""
    return [
        Entry(
            f"timm_{name}",
            "timm",
            family,
            build=partial(_build, name),
            dynamic=(0,),
            raw=name not in LARGE,
            failure=FAILURES.get(name),
            rank=1 if name in FIRST else 4 if name in SLOW else 2,
        )
        for name, (family, _, _) in (ATTENTIONAL | CONVOLUTIONAL).items()
    ]
