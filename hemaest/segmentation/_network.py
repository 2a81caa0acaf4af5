"""The learned method: prepare pairs, train the small network, read its soft maps."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest import cellmap
from hemaest._progress import track
from hemaest.nets.unet import SmallUNet
from hemaest.segmentation._augment import Strength, augment
from hemaest.segmentation._scene import square_around
from hemaest.segmentation._standard import standardize

SIDE = 112
COARSE_SIDE = 80
POOL_SIDE = 144
AROUND = 2.4
SHIPPED = Path(__file__).with_name("cells.safetensors")


def pair(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], side: int = POOL_SIDE, closer: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Return one training pair: standardized density (3, s, s) and classes (s, s).

    With ``closer`` the pair shows the cell in the middle of a window of ``AROUND`` times its size,
    where the picture is larger than that.
    """
    import cv2

    kind = cellmap.encode(labels > 0, cellmap.nuclei(labels))
    if closer and kind.any():
        window = square_around(kind > 0, AROUND)
        image, kind = image[window], kind[window]
    shrink = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink))
    how = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
    image = cv2.resize(np.ascontiguousarray(image), size, interpolation=how)
    kind = cv2.resize(kind, size, interpolation=cv2.INTER_NEAREST)
    x = standardize(image)
    spare = [(0, side - x.shape[0]), (0, side - x.shape[1])]
    x, kind = np.pad(x, [*spare, (0, 0)], mode="symmetric"), np.pad(kind, spare, mode="symmetric")
    return x.transpose(2, 0, 1).astype(np.float16), kind


def make_net(seed: int, widths: Sequence[int]) -> SmallUNet:
    """Return an untrained network; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallUNet(3, 3, tuple(widths))


def train(
    net: SmallUNet,
    x: NDArray[np.float16],
    kind: NDArray[np.uint8],
    *,
    steps: int,
    seed: int,
    how: Strength | None = None,
    batch_size: int = 24,
    lr: float = 3e-3,
    coarse: float = 0.0,
    bfloat16: bool = False,
    watch: Callable[[int, SmallUNet], None] | None = None,
) -> SmallUNet:
    """Train in place by one-cycle AdamW; return the running average of the weights.

    A first share ``coarse`` of the steps sees small pictures, at half the cost. ``bfloat16``
    saves a third of the time on processors that multiply in it. ``watch`` is shown the step and
    the average.
    """
    how = how or Strength()
    rng = torch.Generator().manual_seed(seed)
    net = net.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=max(steps, 4), pct_start=0.15
    )
    # a short run must forget its start, a long one averages its last few hundred steps
    decay = float(np.clip(1 - 8 / max(steps, 1), 0.5, 0.998))
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=True
    )
    for step in track(range(steps), "segmenter"):
        which = torch.randint(len(x), (batch_size,), generator=rng).numpy()
        bx = torch.from_numpy(x[which].astype(np.float32))
        by = F.one_hot(torch.from_numpy(kind[which].astype(np.int64)), 3)
        side = COARSE_SIDE if step < coarse * steps else SIDE
        bx, by = augment(bx, by.permute(0, 3, 1, 2).float(), rng, how, side)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = net(bx.to(memory_format=torch.channels_last))
        loss = loss_of(logits.float(), by)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        if watch is not None:
            watch(step + 1, average.module)
    return average.module.eval()


def loss_of(logits: Tensor, share: Tensor) -> Tensor:
    """Return cross entropy plus soft Dice of the nucleus and of the whole cell."""
    entropy = -(share * F.log_softmax(logits, 1)).sum(1).mean()
    p = logits.softmax(1)
    loss = entropy
    for channels in (slice(2, 3), slice(1, 3)):
        a, b = p[:, channels].sum(1), share[:, channels].sum(1)
        both = (a * b).sum((1, 2))
        loss = loss + 0.5 * (1 - (2 * both + 20) / (a.sum((1, 2)) + b.sum((1, 2)) + 20)).mean()
    return loss


def look(
    net: SmallUNet, image: NDArray[np.uint8], side: int = SIDE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the standardized density and the class shares of an RGB image, each (h, w, 3).

    Both have ``side`` pixels along the longer edge; the classes are background, cytoplasm and
    nucleus.
    """
    x = seen_at(image, side)
    return x, class_shares(net, x)


def look_around(
    net: SmallUNet, image: NDArray[np.uint8], where: NDArray[np.bool_], reach: int
) -> NDArray[np.float32]:
    """Return the class shares near a mask, and background where nothing of it is in reach.

    The mask says what size the image is seen at. Most of a field is red cells, which need no look.
    """
    import cv2

    x = seen_at(image, max(where.shape))
    shares = np.zeros_like(x)
    shares[..., 0] = 1
    near = cv2.dilate(where.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(near, connectivity=4)
    boxes = boxes[1:]
    if boxes[:, cv2.CC_STAT_AREA].sum() > 0.7 * near.size:
        return class_shares(net, x)
    for left, top, width, height, _ in boxes:
        box = np.s_[top : top + height, left : left + width]
        shares[box] = np.where(near[box][..., None] > 0, class_shares(net, x[box]), shares[box])
    return shares


def seen_at(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Return the standardized density of an image with ``side`` pixels along its longer edge."""
    import cv2

    scale = side / max(image.shape[:2])
    small = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return standardize(cv2.resize(np.ascontiguousarray(image), small, interpolation=how))


def class_shares(net: SmallUNet, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return background, cytoplasm and nucleus (h, w, 3) of standardized density."""
    spare = [(0, -n % net.stride) for n in x.shape[:2]]
    padded = np.pad(x, [*spare, (0, 0)], mode="edge") if any(n for _, n in spare) else x
    with torch.inference_mode():
        # height, width, channels in memory is what channels_last means
        p = net(torch.from_numpy(padded)[None].permute(0, 3, 1, 2)).softmax(1)[0]
    return p[:, : x.shape[0], : x.shape[1]].permute(1, 2, 0).contiguous().numpy()


def fused(net: SmallUNet) -> SmallUNet:
    """Return a copy with each batch norm folded into its convolution: the same answers, faster."""
    import copy

    from torch.nn.utils.fusion import fuse_conv_bn_eval

    net = copy.deepcopy(net).eval()
    for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        if len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(block[0], block[1])
            block[1] = nn.Identity()
    return net.to(memory_format=torch.channels_last).requires_grad_(False)


def save_weights(net: SmallUNet, path: Any, widths: Sequence[int]) -> None:
    """Write the weights in half precision, with the widths as metadata."""
    from safetensors.torch import save_file

    state = {
        k: v.half().contiguous() if v.is_floating_point() else v
        for k, v in net.state_dict().items()
        if "num_batches" not in k
    }
    save_file(state, str(path), metadata={"widths": ",".join(map(str, widths))})


def load_weights(path: Any = SHIPPED) -> SmallUNet:
    """Read a network that ``save_weights`` wrote."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        widths = tuple(int(w) for w in file.metadata()["widths"].split(","))
        state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    net = SmallUNet(3, 3, widths)
    net.load_state_dict(state, strict=False)
    return net.eval().to(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def shipped() -> SmallUNet:
    """Return the network that comes with the package; read once, not to be changed."""
    return load_weights(SHIPPED)


@lru_cache(maxsize=1)
def shipped_fused() -> SmallUNet:
    """Return the same, ready to answer."""
    return fused(shipped())
