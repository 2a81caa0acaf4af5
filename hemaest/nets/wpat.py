"""WPAT, the windowed patch attention transformer: attention in windows of convolutional maps.

A map is cut into windows of at most 7 x 7 places; every place attends to the others in its window.
Every second block shifts the windows by half, so that the two sides of a window edge interact.
Built by :func:`hemaest.nets.build_net`, trained by :class:`hemaest.deep.WPATClassifier`.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F


def window_grid(side: int, largest: int) -> tuple[int, int]:
    """Return the side and number of windows that divide a side as evenly as possible.

    Examples
    --------
    >>> [window_grid(side, 7) for side in (4, 7, 8, 14, 16)]
    [(4, 1), (7, 1), (4, 2), (7, 2), (6, 3)]
    """
    count = math.ceil(side / largest)
    return math.ceil(side / count), count


def region_ids(height: int, width: int, window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Return region numbers of the padded and rolled map; only equal numbers attend to each other.

    Rolling brings opposite borders into one window, where they must not interact. Padding attends
    only to padding.
    """
    numbers = []
    for side, win, by in zip((height, width), window, shift, strict=True):
        padded = -(-side // win) * win
        rolled = torch.arange(padded) + by
        # 1: rolled from the front to the back; 2: padding
        number = (rolled >= padded).long()
        number[rolled % padded >= side] = 2
        numbers.append(number)
    rows, columns = numbers[0][:, None], numbers[1]
    return torch.where((rows == 2) | (columns == 2), -1, 2 * rows + columns)


def to_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut a map (n, h, w, c) into (n, windows, places, c)."""
    n, height, width, c = x.shape
    a, b = window
    x = x.view(n, height // a, a, width // b, b, c).transpose(2, 3)
    return x.reshape(n, -1, a * b, c)


def from_windows(x: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """Join windows (n, windows, places, c) to a map (n, h, w, c)."""
    n, _, _, c = x.shape
    a, b = window
    x = x.view(n, height // a, width // b, a, b, c).transpose(2, 3)
    return x.reshape(n, height, width, c)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def blocked_pairs(
    height: int,
    width: int,
    window: tuple[int, int],
    shift: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Return the pairs of places without attention: bool (windows, 1, places, places)."""
    region = region_ids(height, width, window, shift).to(device)
    region = to_windows(region[None, :, :, None], window)[0, :, :, 0]
    return (region[:, :, None] != region[:, None, :])[:, None]


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def offsets(window: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the row and column distances of places in a window: two of (places, places)."""
    rows, columns = torch.meshgrid(*(torch.arange(w) for w in window), indexing="ij")
    rows, columns = rows.flatten().to(device), columns.flatten().to(device)
    return rows[:, None] - rows, columns[:, None] - columns


class WindowAttention(nn.Module):
    """Attention inside windows, with a learned bias for each relative position.

    Parameters
    ----------
    dim, heads : int
        Number of channels and of heads.
    window_size : int
        Largest side of a window. On small maps windows are smaller and use the inner part of the
        table of biases.
    shifted : bool
        Whether windows are shifted by half; without effect where the map is a single window.
    """

    def __init__(self, dim: int, heads: int, window_size: int, shifted: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window_size = window_size
        self.shifted = shifted
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        side = 2 * window_size - 1
        self.bias = nn.Parameter(torch.zeros(heads, side, side))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def relative_bias(self, window: tuple[int, int]) -> Tensor:
        """Return the bias (heads, places, places) for a window."""
        rows, columns = offsets(window, self.bias.device)
        middle = self.window_size - 1
        return self.bias[:, rows + middle, columns + middle]

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention inside the windows of a map (n, h, w, c)."""
        n, height, width, c = x.shape
        (a, down), (b, across) = (
            window_grid(height, self.window_size),
            window_grid(width, self.window_size),
        )
        window, full = (a, b), (a * down, b * across)
        shift = (
            a // 2 if self.shifted and down > 1 else 0,
            b // 2 if self.shifted and across > 1 else 0,
        )
        x = F.pad(x, (0, 0, 0, full[1] - width, 0, full[0] - height))
        x = x.roll((-shift[0], -shift[1]), (1, 2))
        parts = to_windows(x, window)
        heads = self.qkv(parts).view(*parts.shape[:3], 3, self.heads, -1)
        q, k, v = heads.permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_bias(window)[None]
        if any(shift) or full != (height, width):
            # large but finite: padding attends only to padding
            bias = bias.masked_fill(blocked_pairs(height, width, window, shift, x.device), -1e4)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = from_windows(found.transpose(2, 3).flatten(3), window, *full)
        x = x.roll(shift, (1, 2))[:, :height, :width]
        return self.out(x)


class WindowBlock(nn.Module):
    """Window attention, then a pointwise MLP; the identity at initialization."""

    def __init__(
        self, dim: int, heads: int, window_size: int, shifted: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window_size, shifted)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)
        for last in (self.attention.out, self.mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Add attention and MLP to a map (n, h, w, c)."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Branch(nn.Module):
    """One scale: projection to a common width, then blocks with plain and shifted windows."""

    def __init__(
        self, channels: int, dim: int, heads: int, window_size: int, depth: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, dim)
        self.blocks = nn.Sequential(
            *(WindowBlock(dim, heads, window_size, i % 2 == 1, drop_path) for i in range(depth))
        )
        self.last = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map (n, c, h, w) as (n, h, w, dim) after attention."""
        return self.last(self.blocks(self.project(self.norm(x.permute(0, 2, 3, 1)))))


def downsample(x: Tensor, times: int) -> Tensor:
    """Return a map (n, c, h, w) average-pooled by a factor; incomplete windows count too.

    Examples
    --------
    >>> downsample(torch.tensor([[[[1.0, 3.0, 4.0]]]]), 2)
    tensor([[[[2., 4.]]]])
    """
    return x if times == 1 else F.avg_pool2d(x, times, ceil_mode=True)


class WPAT(nn.Module):
    """A convolutional encoder, windowed attention on its maps, and two kinds of pooling.

    Attention pooling weights the places of all scales by a learned query. It is concatenated with
    the average of the encoder's last map.

    Parameters
    ----------
    num_classes : int, default=1000
        Number of outputs; 0 leaves out the last layer.
    encoder : Module
        With timm's interface, ``stem`` and ``stages``: a ConvNeXt or a :class:`ResNet24`.
    scales : int, default=2
        Number of resolutions, from the coarsest. Where the encoder has fewer, as on small images,
        its last map is halved for each missing one.
    dim, heads : int, default=128, 4
        Width of the attention, a multiple of the number of its heads.
    depth : int, default=2
        Blocks for each scale, every second one with shifted windows.
    window_size : int, default=7
        Largest side of a window.
    drop_path_rate : float, default=0.0
        Stochastic depth of the blocks.

    Examples
    --------
    >>> from hemaest.nets import ResNet24
    >>> net = WPAT(3, encoder=ResNet24(0, width=8), dim=32).eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        encoder: nn.Module,
        scales: int = 2,
        dim: int = 128,
        heads: int = 4,
        depth: int = 2,
        window_size: int = 7,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(
                f"dim={dim} is not a multiple of heads={heads}; take a multiple, "
                f"such as {-(-dim // heads) * heads}."
            )
        self.encoder = encoder
        info: Any = encoder.feature_info
        # the deepest stage of each resolution
        deepest = {entry["reduction"]: i for i, entry in enumerate(info)}
        own = sorted(deepest.values())[-scales:]
        missing = scales - len(own)
        self.levels = own + missing * own[-1:]
        # how often each of these maps is halved
        self.halved = len(own) * [0] + list(range(1, missing + 1))
        self.branches = nn.ModuleList(
            Branch(info[i]["num_chs"], dim, heads, window_size, depth, drop_path_rate)
            for i in self.levels
        )
        self.feature_info = [{**entry, "module": f"encoder.{entry['module']}"} for entry in info]
        self.pretrained_cfg = {"classifier": "fc", "first_conv": None}
        self.query = nn.Linear(dim, 1, bias=False)
        self.value = nn.Linear(dim, dim)
        self.num_features = int(encoder.num_features) + dim  # type: ignore[arg-type]
        self.fc: nn.Module = nn.Identity()
        for layer in (self.query, self.value):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return how parameters group into layers: those of the encoder, then all others."""

        def inside(pattern: Any) -> Any:
            if isinstance(pattern, str):
                return pattern.replace("^", r"^encoder\.", 1)
            return [(inside(regex), order) for regex, order in pattern]

        matcher = self.encoder.group_matcher(coarse)  # type: ignore[operator]
        return {name: inside(pattern) for name, pattern in matcher.items()}

    def no_weight_decay(self) -> set[str]:
        """Return the names of the tables of biases."""
        return {name for name, _ in self.named_parameters() if name.endswith("attention.bias")}

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the encoder's last map (n, c, h, w), then each scale (n, h, w, dim)."""
        maps = []
        x = self.encoder.stem(x)  # type: ignore[operator]
        for stage in self.encoder.stages:  # type: ignore[union-attr]
            x = stage(x)
            maps.append(x)
        seen = (downsample(maps[i], 2**n) for i, n in zip(self.levels, self.halved, strict=True))
        return [x, *(branch(found) for branch, found in zip(self.branches, seen, strict=True))]

    def attention_weights(self, features: list[Tensor]) -> list[Tensor]:
        """Return the weight of each place in attention pooling: (n, h, w) for each scale.

        They sum to one over all places of all scales.
        """
        # minus the log of the area: every scale has the same weight at first
        scores = [
            self.query(x)[..., 0].float() - math.log(x.shape[1] * x.shape[2]) for x in features[1:]
        ]
        whole = torch.cat([score.flatten(1) for score in scores], dim=1).softmax(dim=1)
        parts = whole.split([score[0].numel() for score in scores], dim=1)
        return [part.view(score.shape) for part, score in zip(parts, scores, strict=True)]

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        """Pool both ways, concatenate, and classify unless ``pre_logits``."""
        average = self.encoder.forward_head(features[0], pre_logits=True)  # type: ignore[operator]
        attended = sum(
            (self.value(x) * weight[..., None].to(x.dtype)).sum((1, 2))
            for x, weight in zip(features[1:], self.attention_weights(features), strict=True)
        )
        joined = torch.cat([average, attended], dim=1)
        return joined if pre_logits else self.fc(joined)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.forward_head(self.forward_features(x))
