"""Small networks written here: generative, super-resolution, dense, recurrent and keyword-spotting ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.entry import BATCH, Entry

if TYPE_CHECKING:
    import torch

    Module = torch.nn.Module
    Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def _chain(*parts: Any) -> Module:
    from torch import nn

    return nn.Sequential(*parts)


def _normal(*shape: int) -> torch.Tensor:
    import torch

    return torch.randn(*shape)


def _conv(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, activation: str = "SiLU", groups: int = 1
) -> Module:
    from torch import nn

    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return _chain(conv, nn.BatchNorm2d(outputs), getattr(nn, activation)())


def dcgan_generator() -> Built:
    """DCGAN's generator: transposed convolutions from a latent vector (Radford et al., 2016)."""
    from torch import nn

    parts: list[Any] = [nn.ConvTranspose2d(32, 64, 4, 1, 0, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    for inputs, outputs in ((64, 48), (48, 32), (32, 16)):
        conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        parts += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return _chain(*parts, nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh()), (_normal(BATCH, 32, 1, 1),)


def dcgan_discriminator() -> Built:
    """DCGAN's discriminator: strided convolutions, leaky ReLU."""
    from torch import nn

    parts: list[Any] = [nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs in ((16, 32), (32, 64), (64, 64)):
        parts += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return _chain(*parts, nn.Conv2d(64, 1, 4), nn.Flatten()), (_normal(BATCH, 3, 64, 64),)


def cyclegan_generator() -> Built:
    """Reflection padding, instance norm, residual blocks, transposed convolutions (Zhu et al., 2017)."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            half = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width, affine=True)]
            rest = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]
            self.body = nn.Sequential(*half, nn.ReLU(), *rest)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.body(x)

    head = [nn.ReflectionPad2d(3), nn.Conv2d(3, 16, 7), nn.InstanceNorm2d(16), nn.ReLU()]
    down = [nn.Conv2d(16, 32, 3, 2, 1), nn.InstanceNorm2d(32), nn.ReLU()]
    up = [nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(16), nn.ReLU()]
    tail = [nn.ReflectionPad2d(3), nn.Conv2d(16, 3, 7), nn.Tanh()]
    return _chain(*head, *down, Block(32), Block(32), *up, *tail), (_normal(BATCH, 3, 32, 32),)


def style_generator() -> Built:
    """A modulated-convolution generator: the weight is computed from a style (Karras et al., 2020)."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Modulated(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5)
            self.style = nn.Linear(32, inputs)
            self.bias = nn.Parameter(torch.randn(outputs, 1, 1) * 0.1)

        def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
            weight = self.weight * (1 + self.style(style)).view(1, -1, 1, 1)
            weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
            return functional.leaky_relu(functional.conv2d(x, weight, padding=1) + self.bias, 0.2)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mapping = nn.Sequential(nn.Linear(16, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2))
            self.start = nn.Parameter(torch.randn(1, 32, 4, 4))
            self.layers = nn.ModuleList([Modulated(32, 32), Modulated(32, 24), Modulated(24, 16)])
            self.paint = nn.Conv2d(16, 3, 1)

        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            style, x = self.mapping(latent), self.start
            for layer in self.layers:
                x = functional.interpolate(layer(x, style), scale_factor=2.0, mode="bilinear")
            return self.paint(x)

    return Generator(), (_normal(1, 16),)


def autoencoder() -> Built:
    """Convolutions down to a code of 32 and transposed ones back."""
    from torch import nn

    down = [nn.Conv2d(1, 16, 3, 2, 1), nn.ELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ELU(), nn.Flatten()]
    code = [nn.Linear(32 * 49, 32), nn.ELU(), nn.Linear(32, 32 * 49), nn.ELU(), nn.Unflatten(1, (32, 7, 7))]
    up = [nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid()]
    return _chain(*down, *code, *up), (_normal(BATCH, 1, 28, 28),)


def variational_autoencoder() -> Built:
    """Two heads, mean and log variance; the noise is an input."""
    import torch
    from torch import nn

    class Variational(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Sequential(nn.Linear(256, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU())
            self.heads = nn.Linear(64, 32)
            self.decode = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 256))

        def forward(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            mean, spread = self.heads(self.encode(x)).chunk(2, -1)
            return self.decode(mean + noise * torch.exp(0.5 * spread)), mean, spread

    return Variational(), (_normal(BATCH, 256), _normal(BATCH, 16))


def vq_autoencoder() -> Built:
    """A codebook looked up by nearest neighbour (van den Oord et al., 2017)."""
    import torch
    from torch import nn

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = _chain(_conv(3, 16, stride=2), _conv(16, 32, stride=2), nn.Conv2d(32, 16, 1))
            self.codes = nn.Parameter(torch.randn(24, 16))
            self.decode = _chain(nn.ConvTranspose2d(16, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.encode(x).permute(0, 2, 3, 1)
            far = (z.unsqueeze(-2) - self.codes).square().sum(-1)
            return self.decode(self.codes[far.argmin(-1)].permute(0, 3, 1, 2))

    return Quantised(), (_normal(BATCH, 3, 32, 32),)


def espcn() -> Built:
    """Sub-pixel convolution (Shi et al., 2016)."""
    from torch import nn

    body = [nn.Conv2d(1, 32, 5, 1, 2), nn.Tanh(), nn.Conv2d(32, 16, 3, 1, 1), nn.Tanh()]
    return _chain(*body, nn.Conv2d(16, 9, 3, 1, 1), nn.PixelShuffle(3)), (_normal(BATCH, 1, 24, 24),)


def edsr() -> Built:
    """Residual blocks without norm, scaled residuals, two pixel shuffles between convolutions (Lim et al., 2017)."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0.5 * self.body(x)

    up = [nn.Conv2d(32, 128, 3, 1, 1), nn.PixelShuffle(2)]
    more = [nn.Conv2d(32, 96, 3, 1, 1), nn.PixelShuffle(2), nn.Conv2d(24, 3, 3, 1, 1)]
    return _chain(nn.Conv2d(3, 32, 3, 1, 1), Block(), Block(), *up, *more), (_normal(BATCH, 3, 16, 16),)


def rcan() -> Built:
    """Residual groups with channel attention (Zhang et al., 2018)."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            conv = [nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width), nn.Conv2d(width, width, 3, 1, 1)]
            self.body = nn.Sequential(*conv)
            squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // 4, 1), nn.ReLU()]
            self.gate = nn.Sequential(*squeeze, nn.Conv2d(width // 4, width, 1), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return x + y * self.gate(y)

    body = [nn.Conv2d(3, 24, 3, 1, 1), Block(24), Block(24), nn.Conv2d(24, 12, 3, 1, 1), nn.PixelShuffle(2)]
    return _chain(*body), (_normal(BATCH, 3, 20, 20),)


def rrdb() -> Built:
    """Dense blocks inside residual blocks, nearest-neighbour upsampling (Wang et al., 2018)."""
    import torch
    from torch import nn

    class Dense(nn.Module):
        def __init__(self, width: int = 24, growth: int = 12) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(width + i * growth, growth, 3, 1, 1) for i in range(3))
            self.last = nn.Conv2d(width + 3 * growth, width, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = [x]
            for conv in self.convs:
                features.append(nn.functional.leaky_relu(conv(torch.cat(features, 1)), 0.2))
            return x + 0.2 * self.last(torch.cat(features, 1))

    tail = [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(24, 24, 3, 1, 1), nn.LeakyReLU(0.2)]
    return _chain(nn.Conv2d(3, 24, 3, 1, 1), Dense(), Dense(), *tail, nn.Conv2d(24, 3, 3, 1, 1)), (
        _normal(2, 3, 16, 16),
    )


def unet() -> Built:
    """Skips by concatenation, bilinear upsampling (Ronneberger et al., 2015)."""
    return _unet(transposed=False), (_normal(BATCH, 3, 48, 48),)


def unet_transposed() -> Built:
    """The same with transposed convolutions and nested skips of uneven widths."""
    return _unet(transposed=True), (_normal(BATCH, 3, 48, 48),)


def _unet(transposed: bool) -> Module:
    import torch
    from torch import nn

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (16, 24, 32, 48)
            pairs = list(zip((3, *widths), widths, strict=False))
            self.down = nn.ModuleList(
                _chain(_conv(i, o, activation="ReLU"), _conv(o, o, activation="ReLU")) for i, o in pairs
            )
            backward = list(zip(widths[::-1], widths[-2::-1], strict=False))
            self.up = nn.ModuleList(
                nn.ConvTranspose2d(i, o, 2, 2) if transposed else nn.Upsample(scale_factor=2, mode="bilinear")
                for i, o in backward
            )
            self.merge = nn.ModuleList(_conv(2 * o if transposed else i + o, o, activation="ReLU") for i, o in backward)
            self.head = nn.Conv2d(16, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skips = []
            for stage in self.down:
                x = stage(x if not skips else nn.functional.max_pool2d(x, 2))
                skips.append(x)
            for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
                x = merge(torch.cat([up(x), skip], 1))
            return self.head(x)

    return UNet()


def diffusion_unet() -> Built:
    """Group norm, a time embedding added per channel, self-attention at the bottom (Ho et al., 2020)."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Residual(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, 1, 1))
            self.time = nn.Linear(32, outputs)
            self.second = nn.Sequential(nn.GroupNorm(4, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, 1, 1))
            self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

        def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return self.skip(x) + self.second(self.first(x) + self.time(time)[:, :, None, None])

    class Attention(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.norm, self.heads = nn.GroupNorm(4, width), heads
            self.qkv, self.out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, c, h, w = x.shape
            q, k, v = self.qkv(self.norm(x).reshape(b, c, h * w)).reshape(b * self.heads, -1, h * w).chunk(3, 1)
            scores = torch.einsum("bct,bcs->bts", q, k) * (c // self.heads) ** -0.5
            mixed = torch.einsum("bts,bcs->bct", scores.softmax(-1), v).reshape(b, c, h * w)
            return x + self.out(mixed).reshape(b, c, h, w)

    class Diffusion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU())
            self.enter, self.leave = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 3, 3, 1, 1)
            self.down = nn.ModuleList([Residual(16, 16), Residual(16, 32)])
            self.shrink = nn.Conv2d(32, 32, 3, 2, 1)
            self.middle, self.attention = Residual(32, 32), Attention(32, 4)
            self.up = nn.ModuleList([Residual(64, 32), Residual(48, 16)])

        def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
            rates = torch.exp(torch.arange(8) * -1.0)
            angles = step[:, None] * rates
            time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
            first = self.down[0](self.enter(x), time)
            second = self.down[1](first, time)
            x = self.attention(self.middle(self.shrink(second), time))
            x = functional.interpolate(x, scale_factor=2.0)
            x = self.up[0](torch.cat([x, second], 1), time)
            return self.leave(self.up[1](torch.cat([x, first], 1), time))

    return Diffusion(), (_normal(BATCH, 3, 16, 16), torch.tensor([3.0, 70.0])[:BATCH])


GENERATIVE: dict[str, tuple[str, Callable[[], Built], tuple[int | None, ...] | None]] = {
    "unet": ("UNet", unet, (0,)),
    "dcgan_generator": ("GAN generator", dcgan_generator, (0,)),
    "dcgan_discriminator": ("GAN discriminator", dcgan_discriminator, (0,)),
    "cyclegan_generator": ("GAN image to image", cyclegan_generator, (0,)),
    "style_generator": ("modulated GAN", style_generator, None),
    "autoencoder": ("autoencoder", autoencoder, (0,)),
    "variational_autoencoder": ("VAE", variational_autoencoder, (0, 0)),
    "vq_autoencoder": ("VQ-VAE", vq_autoencoder, (0,)),
    "espcn": ("super-resolution", espcn, (0,)),
    "edsr": ("super-resolution", edsr, (0,)),
    "rcan": ("super-resolution", rcan, (0,)),
    "rrdb": ("super-resolution", rrdb, (0,)),
    "unet_transposed": ("UNet", unet_transposed, (0,)),
    "diffusion_unet": ("diffusion UNet", diffusion_unet, (0, 0)),
}


def entries() -> list[Entry]:
    """The entries of this file and of `written_sequences` and `written_detectors`."""
    from zoo import written_detectors, written_sequences

    tables = {**GENERATIVE, **written_detectors.TABLE, **written_sequences.TABLE}
    first = ("unet", "yolo_like")
    return [
        Entry(
            f"own_{name}",
            "written",
            family,
            build,
            dynamic=dynamic,
            old=name in ("unet", "yolo_like", "lstm_tagger", "gru_classifier", "edsr", "dcgan_generator"),
            rank=0 if name in first else 1,
        )
        for name, (family, build, dynamic) in tables.items()
    ]
