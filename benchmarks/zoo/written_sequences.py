"""Small sequence networks written here: recurrent, keyword spotting, tabular, graph, mixture of experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zoo.entry import BATCH

if TYPE_CHECKING:
    import torch

    Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def _recurrent(kind: str, layers: int, both: bool, tag: bool) -> Built:
    """Embedding, recurrent layers, dense head: for every step if `tag`, else for the last."""
    import torch
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 24)
            self.body = getattr(nn, kind)(24, 32, layers, batch_first=True, bidirectional=both)
            self.head = nn.Sequential(nn.Linear(64 if both else 32, 32), nn.ReLU(), nn.Linear(32, 7))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            y, _ = self.body(self.embed(tokens))
            return self.head(y if tag else y[:, -1])

    return Recurrent(), (torch.randint(0, 50, (BATCH, 12)),)


def lstm_tagger() -> Built:
    """Two LSTM layers, both directions, a label a step."""
    return _recurrent("LSTM", 2, both=True, tag=True)


def lstm_classifier() -> Built:
    """One LSTM layer, the last step."""
    return _recurrent("LSTM", 1, both=False, tag=False)


def gru_classifier() -> Built:
    """Two GRU layers, the last step."""
    return _recurrent("GRU", 2, both=False, tag=False)


def gru_tagger() -> Built:
    """One GRU layer, both directions."""
    return _recurrent("GRU", 1, both=True, tag=True)


def rnn_classifier() -> Built:
    """An Elman network."""
    return _recurrent("RNN", 2, both=False, tag=False)


def forecaster() -> Built:
    """LSTM over a series, its final state and cell into a dense head."""
    import torch
    from torch import nn

    class Forecaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.body = nn.Linear(5, 16), nn.LSTM(16, 32, batch_first=True)
            self.head = nn.Linear(64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            _, (state, cell) = self.body(self.enter(x).tanh())
            return self.head(torch.cat([state[-1], cell[-1]], -1))

    return Forecaster(), (torch.randn(BATCH, 20, 5),)


def crnn() -> Built:
    """Convolutions, then a bidirectional LSTM over columns: text recognition (Shi et al., 2017)."""
    import torch
    from torch import nn

    from zoo.written import _chain, _conv

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = _chain(_conv(1, 16), nn.MaxPool2d(2), _conv(16, 32), nn.MaxPool2d((4, 1)), _conv(32, 32))
            self.body, self.head = nn.LSTM(64, 32, bidirectional=True, batch_first=True), nn.Linear(64, 20)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.convs(x).permute(0, 3, 1, 2).flatten(2)
            return self.head(self.body(x)[0]).log_softmax(-1)

    return Reader(), (torch.randn(BATCH, 1, 16, 48),)


def ds_cnn() -> Built:
    """Depthwise-separable keyword spotting (Zhang et al., 2017)."""
    import torch
    from torch import nn

    from zoo.written import _chain, _conv

    blocks = [
        _chain(_conv(32, 32, groups=32, activation="ReLU"), _conv(32, 32, 1, activation="ReLU")) for _ in range(3)
    ]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 12)]
    return _chain(_conv(1, 32, 5, 2, "ReLU"), *blocks, *tail), (torch.randn(BATCH, 1, 49, 10),)


def tc_resnet() -> Built:
    """Temporal convolutions with residuals (Choi et al., 2019)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            first = [nn.Conv1d(inputs, outputs, 9, 2, 4, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
            second = [nn.Conv1d(outputs, outputs, 9, 1, 4, bias=False), nn.BatchNorm1d(outputs)]
            self.body = nn.Sequential(*first, *second)
            self.skip = nn.Sequential(nn.Conv1d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.body(x) + self.skip(x))

    tail = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 12)]
    return nn.Sequential(nn.Conv1d(40, 16, 3, 1, 1), Block(16, 24), Block(24, 48), *tail), (torch.randn(BATCH, 40, 50),)


def keyword_gru() -> Built:
    """Convolution, GRU and attention pooling."""
    import torch
    from torch import nn

    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.body = nn.Conv1d(40, 32, 5, 2), nn.GRU(32, 32, batch_first=True)
            self.score, self.head = nn.Linear(32, 1), nn.Linear(32, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y, _ = self.body(self.conv(x).relu().transpose(1, 2))
            return self.head((y * self.score(y.tanh()).softmax(1)).sum(1))

    return Keyword(), (torch.randn(BATCH, 40, 50),)


def wavenet() -> Built:
    """Dilated gated convolutions with skip outputs (van den Oord et al., 2016)."""
    import torch
    from torch import nn

    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Conv1d(1, 24, 1)
            self.gates = nn.ModuleList(nn.Conv1d(24, 48, 2, dilation=2**i) for i in range(4))
            self.outs = nn.ModuleList(nn.Conv1d(24, 24 + 16, 1) for _ in range(4))
            self.leave = nn.Sequential(nn.ReLU(), nn.Conv1d(16, 32, 1), nn.ReLU(), nn.Conv1d(32, 16, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x, total = self.enter(x), torch.zeros(1)
            for i, (gate, out) in enumerate(zip(self.gates, self.outs, strict=True)):
                y = gate(nn.functional.pad(x, (2**i, 0)))
                tanh, sigmoid = y.chunk(2, 1)
                residual, skip = out(tanh.tanh() * sigmoid.sigmoid()).split([24, 16], 1)
                x, total = x + residual, total + skip
            return self.leave(total)

    return Wave(), (torch.randn(BATCH, 1, 64),)


def conv_tasnet() -> Built:
    """Learned filter bank, masks per source, overlap-add by transposed convolution (Luo and Mesgarani, 2019)."""
    import torch
    from torch import nn

    class Separate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Conv1d(1, 32, 16, 8), nn.ConvTranspose1d(32, 1, 16, 8)
            body: list[nn.Module] = [nn.GroupNorm(1, 32), nn.Conv1d(32, 24, 1)]
            for i in range(2):
                inner = [nn.Conv1d(24, 32, 1), nn.PReLU(), nn.GroupNorm(1, 32)]
                depthwise = [
                    nn.Conv1d(32, 32, 3, padding=2**i, dilation=2**i, groups=32),
                    nn.PReLU(),
                    nn.Conv1d(32, 24, 1),
                ]
                body += [*inner, *depthwise]
            self.body = nn.Sequential(*body, nn.Conv1d(24, 64, 1), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            code = self.encode(x)
            masks = self.body(code).unflatten(1, (2, 32))
            parts = (masks * code.unsqueeze(1)).flatten(0, 1)
            return self.decode(parts).unflatten(0, (-1, 2))

    return Separate(), (torch.randn(BATCH, 1, 128),)


def tabular() -> Built:
    """Embeddings of categories beside numbers, a cross layer and a residual MLP."""
    import torch
    from torch import nn

    class Tabular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(size, 8) for size in (7, 11, 5))
            self.numbers = nn.BatchNorm1d(6)
            self.enter = nn.Linear(30, 32)
            self.cross = nn.Linear(32, 32)
            self.block = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
            self.head = nn.Linear(32, 1)

        def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            parts = [table(categories[:, i]) for i, table in enumerate(self.tables)]
            x = self.enter(torch.cat([*parts, self.numbers(numbers)], -1))
            x = x * self.cross(x) + x
            return self.head(x + self.block(x)).sigmoid()

    return Tabular(), (torch.randint(0, 5, (BATCH, 3)), torch.randn(BATCH, 6))


def recommender() -> Built:
    """Factorisation machine and pairwise dot products (Naumov et al., 2019)."""
    import torch
    from torch import nn

    class Recommender(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(20, 16) for _ in range(3))
            self.bottom = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
            self.top = nn.Sequential(nn.Linear(16 + 6, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, items: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            dense = self.bottom(numbers)
            vectors = torch.stack([dense, *(table(items[:, i]) for i, table in enumerate(self.tables))], 1)
            products = vectors @ vectors.transpose(1, 2)
            rows, columns = torch.tril_indices(4, 4, -1)
            return self.top(torch.cat([dense, products[:, rows, columns]], -1))

    return Recommender(), (torch.randint(0, 20, (BATCH, 3)), torch.randn(BATCH, 5))


def graph_convolution() -> Built:
    """Two graph convolutions with a dense adjacency matrix (Kipf and Welling, 2017)."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(12, 32), nn.Linear(32, 32), nn.Linear(32, 4)

        def forward(self, nodes: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            mix = adjacency / adjacency.sum(-1, keepdim=True)
            x = torch.relu(mix @ self.first(nodes))
            return self.head(torch.relu(mix @ self.second(x)) + x).mean(1)

    return Graph(), (torch.randn(BATCH, 9, 12), torch.rand(BATCH, 9, 9) + 0.1)


def point_net() -> Built:
    """Points, shared MLP, a predicted transform, global max (Qi et al., 2017)."""
    import torch
    from torch import nn

    class Points(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
            self.turn = nn.Linear(16, 256)
            self.second = nn.Sequential(nn.Conv1d(16, 48, 1), nn.BatchNorm1d(48), nn.ReLU())
            self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 5))

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            x = self.first(points)
            turn = self.turn(x.amax(2)).view(-1, 16, 16) + torch.eye(16)
            return self.head(self.second(turn @ x).amax(2))

    return Points(), (torch.randn(BATCH, 3, 40),)


def mixture_of_experts() -> Built:
    """Top-2 routing over four expert MLPs, all computed, weights scattered into a mask."""
    import torch
    from torch import nn

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.gate, self.head = nn.Linear(20, 32), nn.Linear(32, 4), nn.Linear(32, 5)
            self.inner = nn.Parameter(torch.randn(4, 32, 48) / 32**0.5)
            self.outer = nn.Parameter(torch.randn(4, 48, 32) / 48**0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.enter(x).relu()
            scores, chosen = self.gate(x).topk(2, -1)
            mask = torch.zeros(x.shape[0], 4).scatter(1, chosen, scores.softmax(-1))
            hidden = torch.einsum("bi,eio->beo", x, self.inner).relu()
            return self.head(torch.einsum("beo,eoi,be->bi", hidden, self.outer, mask) + x)

    return Mixture(), (torch.randn(BATCH, 20),)


TABLE: dict[str, tuple[str, Callable[[], Built], tuple[int | None, ...] | None]] = {
    "lstm_tagger": ("LSTM", lstm_tagger, (0,)),
    "lstm_classifier": ("LSTM", lstm_classifier, (0,)),
    "gru_classifier": ("GRU", gru_classifier, (0,)),
    "gru_tagger": ("GRU", gru_tagger, (0,)),
    "rnn_classifier": ("RNN", rnn_classifier, (0,)),
    "forecaster": ("LSTM", forecaster, (0,)),
    "crnn": ("CRNN", crnn, (0,)),
    "ds_cnn": ("keyword spotting", ds_cnn, (0,)),
    "tc_resnet": ("keyword spotting", tc_resnet, (0,)),
    "keyword_gru": ("keyword spotting", keyword_gru, (0,)),
    "wavenet": ("WaveNet", wavenet, (0,)),
    "conv_tasnet": ("Conv-TasNet", conv_tasnet, (0,)),
    "tabular": ("tabular", tabular, (0, 0)),
    "recommender": ("DLRM", recommender, (0, 0)),
    "graph_convolution": ("graph network", graph_convolution, (0, 0)),
    "point_net": ("PointNet", point_net, (0,)),
    "mixture_of_experts": ("mixture of experts", mixture_of_experts, (0,)),
}
