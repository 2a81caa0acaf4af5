"""Train the shipped network ``blood-fields`` on rendered fields alone.

::

    python -m hemaest.pretrained.train_fields --out runs/blood-fields

One thread, seeded, resumable: run the same command again to go on after a stop. No real image is
read. The last step writes ``blood-fields.safetensors`` (float16) and its card to ``--out``; copied
to ``hemaest/nets/shipped`` they are what :func:`hemaest.pretrained.load_pretrained` loads.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hemaest.datasets import make_smear
from hemaest.datasets.unrelated import draw_unrelated
from hemaest.nets.cards import ModelCard, file_hash, write_card
from hemaest.nets.distill import move_toward
from hemaest.nets.fieldnet import (
    CLASSES,
    UNIT,
    FieldNet,
    depth_of,
    look_at_field,
    standardize_field,
)

from . import _runs

__all__ = ["Settings", "draw_field", "draw_stranger", "train"]

SIDE = 256  # of a drawn field
IGNORED = 255  # burst nuclei, and slices of cells: leukocytes to some, none to others
SLICE = 24.0  # square micrometers
BLOOD = {
    "neutrophil": 0.5, "band_neutrophil": 0.05, "lymphocyte": 0.27, "monocyte": 0.08,
    "eosinophil": 0.06, "basophil": 0.04,
}  # fmt: skip
TYPES = (
    "neutrophil", "band_neutrophil", "eosinophil", "basophil", "lymphocyte", "reactive_lymphocyte",
    "monocyte", "plasma_cell", "cll_lymphocyte", "smudge_cell", "lymphoblast",
    "pre_b_lymphoblast", "hematogone", "myeloblast", "promyelocyte", "myelocyte", "metamyelocyte",
    "immature_eosinophil", "erythroblast",
)  # fmt: skip
STYLES = (
    "may-gruenwald-giemsa", "wright", "leishman", "quick", "understained", "overstained",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All numbers of a run; the card keeps them."""

    steps: int = 2000
    batch: int = 8
    crop: int = 192
    fresh: int = 2  # fields of a batch that are drawn anew; the rest were drawn lately
    pool: int = 1024
    strangers: float = 0.12  # share of fields that show no film, or one that cannot be read
    severity: float = 1.3
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    decay: float = 0.995  # of the averaged weights
    widths: tuple[int, ...] = (32, 48, 64, 96, 128)
    precision: str = "auto"  # bfloat16 where the processor has instructions for it
    seed: int = 0


@dataclass(frozen=True)
class Field:
    """A rendered field and its truth: class and depth of each pixel, and the scale.

    ``seen`` is the image as the network sees it; ``film`` is False of a stranger, of which nothing
    else is known.
    """

    image: NDArray[np.uint8]
    seen: NDArray[np.float16]
    kind: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    um_per_pixel: float
    film: bool = True


def draw_field(seed: list[int], severity: float = 1.3) -> Field:
    """Draw one field of ``SIDE`` pixels: any laboratory, any magnification, any cells.

    Parameters
    ----------
    seed : list of int
    severity : float
        The largest; each field has its own.

    Returns
    -------
    field : Field

    Examples
    --------
    >>> field = draw_field([0, 5])
    >>> field.image.shape, field.kind.shape, bool(field.um_per_pixel > 0.05)
    ((256, 256, 3), (256, 256), True)
    """
    import cv2

    rng = np.random.default_rng(seed)
    low, high = (0.18, 0.5) if rng.random() < 0.65 else (0.09, 0.9)
    um = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    if rng.random() < 0.15:  # a telephone on an eyepiece sees cells of few pixels
        um = float(rng.uniform(0.45, 0.85))
    # the camera's own resolution: most images are seen smaller than they are
    u = rng.random()
    finer = 1.0 if u < 0.5 else rng.uniform(1.0, 1.9) if u < 0.8 else rng.uniform(0.5, 1.0)
    side = round(SIDE * finer)
    n_cells = None
    if rng.random() < 0.6:  # leukocytes are rare in blood; here they are what is to be learned
        many = 1.5 if rng.random() < 0.7 else 6.0
        n_cells = 1 + int(min(rng.poisson(many * (SIDE * um) ** 2 / 6400), 60))
    smear = make_smear(
        side,
        n_cells=n_cells,
        differential=BLOOD if rng.random() < 0.45 else _sick(rng),
        micrometres_per_pixel=um * SIDE / side,
        stain=STYLES[rng.integers(len(STYLES))],
        lab_effect=float(rng.uniform(0, 1.5)),
        severity=float(severity * rng.random()),
        random_state=int(rng.integers(2**31 - 1)),
    )
    kind, depth = _truth(smear, um * SIDE / side)
    image = smear.image
    if side != SIDE:
        way = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
        image = cv2.resize(image, (SIDE, SIDE), interpolation=way)
        kind = cv2.resize(kind, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        depth = cv2.resize(depth, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    seen = standardize_field(image).astype(np.float16)
    return Field(image, seen, kind, (255 * depth).astype(np.uint8), um)


def draw_stranger(seed: list[int], severity: float = 1.3) -> Field:
    """Draw what is no film, or a film that cannot be read: blurred, drowned in noise, a negative.

    Parameters
    ----------
    seed : list of int
    severity : float
        Of the films.

    Returns
    -------
    field : Field

    Examples
    --------
    >>> stranger = draw_stranger([0, 0])
    >>> stranger.film, bool((stranger.kind == IGNORED).all())
    (False, True)
    """
    import cv2

    rng = np.random.default_rng([*seed, 1])
    film = draw_field(seed, severity)
    image = film.image
    if (u := rng.random()) < 0.7:
        image = _picture(rng)
    elif u < 0.8:
        image = 255 - image
    elif u < 0.9:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(1.8, 4.0) / film.um_per_pixel)
    else:
        noise = rng.uniform(45, 90) * rng.standard_normal(image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    seen = standardize_field(image).astype(np.float16)
    kind = np.full(image.shape[:2], IGNORED, np.uint8)
    return Field(image, seen, kind, np.zeros_like(kind), film.um_per_pixel, film=False)


def _picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what is no film: near or far, one or one before another, also in colors of a stain."""
    import cv2

    def one() -> NDArray[np.uint8]:
        side = int(np.exp(rng.uniform(np.log(48), np.log(3 * SIDE))))
        way = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
        return cv2.resize(draw_unrelated(side, rng), (SIDE, SIDE), interpolation=way)

    image = one()
    if rng.random() < 0.4:
        coarse = rng.standard_normal((rng.integers(2, 9),) * 2).astype(np.float32)
        before = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) > 0
        image = np.where(before[..., None], one(), image)
    if rng.random() < 0.35:
        shade = image.mean(axis=2, keepdims=True) / 255
        light, dark = rng.uniform(170, 255, 3), rng.uniform((40, 0, 60), (200, 120, 190))
        image = (shade * light + (1 - shade) * dark).astype(np.uint8)
    return image


def _sick(rng: np.random.Generator) -> dict[str, float]:
    """Return the shares of a film that may hold any types: a few dominate."""
    return dict(zip(TYPES, rng.dirichlet(np.full(len(TYPES), 0.15)) + 1e-6, strict=True))


def _truth(smear: Any, um: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the class of each pixel, and how deep it lies in its object."""
    cells = (smear.cell_map.astype(np.int32) + 1) // 2
    kind = np.zeros(cells.shape, np.uint8)
    kind[smear.red_cell_map > 0] = CLASSES.index("red_cell")
    kind[smear.platelet_map > 0] = CLASSES.index("platelet")
    kind[cells > 0] = CLASSES.index("cytoplasm")
    kind[(cells > 0) & (smear.cell_map % 2 == 0)] = CLASSES.index("nucleus")
    for row in smear.truth.itertuples():
        if row.cell_type == "smudge_cell" or row.cell_area * um**2 < SLICE:
            kind[cells == row.cell] = IGNORED
    red = np.where(smear.red_cell_map > 0, smear.red_cell_map + np.int32(cells.max()), cells)
    owners = np.where(smear.platelet_map > 0, smear.platelet_map + np.int32(red.max()), red)
    return kind, depth_of(owners)


def batches(settings: Settings, start: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield what the network sees, classes, depths, scales in octaves, and which are films."""
    pool: dict[int, Field] = {}

    def field(k: int) -> Field:
        if k not in pool:
            seed = [settings.seed, k]
            strange = np.random.default_rng([*seed, 2]).random() < settings.strangers
            pool[k] = (draw_stranger if strange else draw_field)(seed, settings.severity)
            pool.pop(k - settings.pool, None)
        return pool[k]

    for step in range(start, settings.steps):
        rng = np.random.default_rng([settings.seed, 2**31, step])
        newest = (step + 1) * settings.fresh
        oldest = max(0, newest - settings.pool)
        which = list(range(newest - settings.fresh, newest))
        which += rng.integers(oldest, newest, settings.batch - settings.fresh).tolist()
        items = [_crop(field(k), settings.crop, rng) for k in which]
        yield tuple(torch.from_numpy(np.stack(part)) for part in zip(*items, strict=True))


def _crop(field: Field, side: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Cut, turn and mirror a field, and change contrast and color of what is seen a little."""
    gain = np.exp(0.12 * rng.standard_normal() + 0.08 * rng.standard_normal((3, 1, 1)))
    y, x = rng.integers(0, SIDE - side + 1, 2)
    turn, flip = int(rng.integers(4)), bool(rng.integers(2))

    def cut(a: NDArray) -> NDArray:
        a = np.rot90(a[y : y + side, x : x + side], turn)
        return np.ascontiguousarray(a[:, ::-1] if flip else a)

    seen = cut(field.seen).transpose(2, 0, 1) * gain.astype(np.float32)
    if rng.random() < 0.3:
        seen = seen + 0.2 * rng.random() * rng.standard_normal(seen.shape, dtype=np.float32)
    octaves = np.float32(np.log2(field.um_per_pixel / UNIT))
    return (
        np.ascontiguousarray(seen, np.float32),
        cut(field.kind).astype(np.int64),
        cut(field.depth).astype(np.float32) / 255,
        octaves,
        np.float32(field.film),
    )


def loss_of(
    out: Tensor, kind: Tensor, depth: Tensor, octaves: Tensor, film: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of the losses, and each alone."""
    n = len(CLASSES)
    weight = torch.tensor([1.0, 1.0, 1.5, 2.0, 2.0])
    entropy = F.cross_entropy(out[:, :n], kind, weight=weight, ignore_index=IGNORED)
    known = (kind != IGNORED).float()
    p = out[:, :n].softmax(1) * known[:, None]
    overlap = out.new_zeros(())
    for first in (n - 1, n - 2):  # nucleus, whole cell
        a, b = p[:, first:].sum(1), ((kind >= first) & (kind != IGNORED)).float()
        both = (a * b).sum((1, 2))
        share = (2 * both + 50) / (a.sum((1, 2)) + b.sum((1, 2)) + 50)
        overlap = overlap + 0.5 * (1 - share).mean()
    white = ((kind >= n - 2) & (kind != IGNORED)).float()
    gap = (out[:, n].sigmoid() - depth).abs() * known * (1 + 4 * white)
    deep = gap.sum() / (known * (1 + 4 * white)).sum()
    objects = (depth > 0.3).float()
    octave = (out[:, n + 1] - octaves[:, None, None]).abs() * objects
    scale = octave.sum() / objects.sum().clamp(min=1)
    familiar = F.binary_cross_entropy_with_logits(out[:, n + 2].mean((1, 2)), film)
    parts = {"entropy": entropy, "overlap": overlap, "depth": deep, "octaves": scale}
    parts["familiar"] = familiar
    total = entropy + overlap + 2 * deep + 0.3 * scale + 0.3 * familiar
    return total, {name: float(value.detach()) for name, value in parts.items()}


def rate(settings: Settings, step: int) -> float:
    """Return the learning rate: a short rise, then a cosine to 0."""
    rise = min(0.05 * settings.steps, 150)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    done = (step - rise) / max(settings.steps - rise, 1)
    return float(settings.learning_rate * (0.5 * (1 + np.cos(np.pi * done)) + 1e-3))


def train(
    settings: Settings, out: Path, *, start_from: Path | None = None, checkpoint_every: int = 100
) -> Path:
    """Run all steps, or those that a stopped run left; return the file of weights.

    Parameters
    ----------
    settings : Settings
    out : path
        Folder of the checkpoint and the result.
    start_from : path, optional
        Weights of an earlier run to begin with.
    checkpoint_every : int
        In steps.
    """
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    settings = _runs.on_this_processor(settings)
    net = FieldNet(settings.widths).to(memory_format=torch.channels_last)
    if start_from is not None:
        _runs.load(net, start_from)
    average = FieldNet(settings.widths)
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    start = _runs.resume(out, settings, net, average, optimizer)
    if start == 0:
        (out / "commit.txt").write_text(_runs.commit(), encoding="utf-8")
    sums: dict[str, float] = {}
    began, count = time.time(), 0
    for step, (x, *truth) in enumerate(batches(settings, start), start):
        for group in optimizer.param_groups:
            group["lr"] = rate(settings, step)
        net.train()
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
            found = net(x)
        loss, parts = loss_of(found.float(), *truth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        move_toward(average, net, 1 - min(settings.decay, (step + 1) / (step + 10)))
        sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
        count += 1
        if (step + 1) % 50 == 0 or step + 1 == settings.steps:
            means = ", ".join(f"{name} {value / count:.3f}" for name, value in sums.items())
            spent = time.time() - began
            print(f"step {step + 1}/{settings.steps}: {means}, {spent:.0f} s", flush=True)
            sums, count = {}, 0
        if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
            _runs.keep(out, settings, step + 1, net, average, optimizer)
    return finish(settings, average.eval(), out, start_from)


def finish(settings: Settings, net: FieldNet, out: Path, start_from: Path | None) -> Path:
    """Score the network on fields of unseen seeds; write weights and card."""
    from safetensors.torch import save_file

    weights = {
        name: value.half().contiguous() if value.dtype.is_floating_point else value
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = out / "blood-fields.safetensors"
    save_file(weights, path)
    fields = settings.steps * settings.fresh
    card = ModelCard(
        name="blood-fields",
        task="field of a stained film to the class of each pixel (background, red cell, platelet, "
        "cytoplasm, nucleus), its depth in its object, and the scale",
        training_data=f"{fields:,} fields drawn by hemaest.datasets.make_smear, no real image, "
        f"{settings.strangers:.0%} of them strangers"
        f"{_runs.origin(start_from)}",
        command=_runs.command_of("fields", settings, start_from),
        commit=(out / "commit.txt").read_text(encoding="utf-8"),
        sha256=file_hash(path),
        classes=CLASSES,
        scores={"rendered, unseen seeds": held_out(settings, net)},
        settings=json.loads(json.dumps(asdict(settings))),
    )
    write_card(card, out)
    return path


def held_out(settings: Settings, net: FieldNet, number: int = 96) -> dict[str, float]:
    """Return overlap of classes and error of the scale on fields of seeds of their own."""
    hits = np.zeros((len(CLASSES), 3))
    octaves = []
    for k in range(number):
        field = draw_field([settings.seed + 1_000_003, k], settings.severity)
        x = torch.from_numpy(standardize_field(field.image).transpose(2, 0, 1))[None]
        with torch.inference_mode():
            found = net(x)[0].float()
        known = field.kind != IGNORED
        guess = found[: len(CLASSES)].argmax(0).numpy()
        for c in range(len(CLASSES)):
            a, b = (guess == c) & known, (field.kind == c) & known
            hits[c] += (a & b).sum(), a.sum(), b.sum()
        inside = field.depth > 100
        if inside.any():
            off = np.median(found[len(CLASSES) + 1].numpy()[inside]) - np.log2(
                field.um_per_pixel / UNIT
            )
            octaves.append(abs(float(off)))
    dice = 2 * hits[:, 0] / np.maximum(hits[:, 1] + hits[:, 2], 1)
    scores = {f"Dice {name}": round(float(d), 4) for name, d in zip(CLASSES, dice, strict=True)}
    scores["median error of scale, octaves"] = round(float(np.median(octaves)), 4)
    for draw, title in (
        (draw_field, "films taken for strangers"),
        (draw_stranger, "strangers found"),
    ):
        fields = [draw([settings.seed + 2_000_003, k], settings.severity) for k in range(number)]
        strange = [look_at_field(net, field.image).familiar < 0 for field in fields]
        scores[title] = round(float(np.mean(strange)), 4)
    return scores


def main() -> None:
    """Read the command line and train."""
    settings, out, start = _runs.parsed(Settings(), __doc__.splitlines()[0])
    print(train(settings, out, start_from=_runs.first_weights(start, out)))


if __name__ == "__main__":
    main()
