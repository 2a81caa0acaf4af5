"""Train the shipped network ``blood-cells`` on rendered cells alone.

::

    python -m hemaest.pretrained.train_cells --out runs/blood-cells

One thread, seeded, resumable: run the same command again to go on after a stop. No real image is
read. With ``--start FILE`` the run begins with the weights of an earlier one. The last step writes
``blood-cells.safetensors`` (float16) and its card to ``--out``; copied to ``hemaest/nets/shipped``
they are what :func:`hemaest.pretrained.load_pretrained` loads.

Most crops come with their width, some with that which the shipped network of fields measures, so
these weights depend on those.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hemaest.datasets.crops import NOTHING, TRAITS, draw_crop
from hemaest.datasets.unrelated import draw_unrelated
from hemaest.nets.cards import ModelCard, file_hash, write_card
from hemaest.nets.cellnet import BloodCellNet, Seen, recolor
from hemaest.nets.distill import move_toward
from hemaest.nets.fieldnet import seen_width

from . import _runs

__all__ = ["CLASSES", "Settings", "given_width", "train"]

# shares of crops without a width, and of those with the width that the network of fields measures;
# the others have their own, with an error in octaves
UNKNOWN, MEASURED, ERROR, BLUNDER = 0.2, 0.3, 0.15, 0.05

# the type that the network names, and the recipes that are drawn for it with their shares: what
# blood holds most of is drawn most
CLASSES: dict[str, dict[str, float]] = {
    "segmented neutrophil": {"neutrophil": 2.4},
    "band neutrophil": {"band_neutrophil": 1.0},
    "eosinophil": {"eosinophil": 1.2, "immature_eosinophil": 0.35},
    "basophil": {"basophil": 1.2},
    "lymphocyte": {"lymphocyte": 2.0, "cll_lymphocyte": 0.3, "hematogone": 0.1},
    "reactive lymphocyte": {"reactive_lymphocyte": 0.7},
    "monocyte": {"monocyte": 2.2},
    "promyelocyte": {"promyelocyte": 0.6},
    "myelocyte": {"myelocyte": 0.6},
    "metamyelocyte": {"metamyelocyte": 0.6},
    "blast": {
        "myeloblast": 0.4, "lymphoblast": 0.25, "early_pre_b_lymphoblast": 0.1,
        "pre_b_lymphoblast": 0.1, "pro_b_lymphoblast": 0.1,
    },
    "plasma cell": {"plasma_cell": 0.6},
    "erythroblast": {"erythroblast": 1.2, "proerythroblast": 0.15},
    "platelet": {"platelet": 1.0},
    "smudge cell": {"smudge_cell": 0.5},
    "artefact": {"artefact": 0.4, "unidentifiable": 0.2, NOTHING: 0.5},
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All numbers of a run; the card keeps them."""

    steps: int = 6000
    batch: int = 64
    size: int = 96
    fresh: float = 0.5  # share of a batch that is drawn anew; the rest was drawn lately
    pool: int = 8192
    unrelated: float = 0.05
    learning_rate: float = 3e-3
    weight_decay: float = 0.03
    smoothing: float = 0.05
    descent: float = 0.3  # share of the steps over which the learning rate falls
    decay: float = 0.998  # of the averaged weights
    channels: tuple[int, ...] = (24, 48, 96, 160)
    depths: tuple[int, ...] = (1, 1, 2, 1)
    dropout: float = 0.1
    recolored: float = 0.5  # share of images that are seen as the second look sees them
    restyled: float = 0.5  # share of images whose maps get the mean and spread of other images
    precision: str = "auto"  # bfloat16 where the processor has instructions for it
    seed: int = 0


@dataclass
class Pool:
    """The crops that were drawn last; their truth beside them."""

    images: np.ndarray
    outlines: np.ndarray
    targets: np.ndarray
    traits: np.ndarray
    widths: np.ndarray  # in micrometers, as the network gets them; 0 = not known
    filled: int = 0
    drawn: int = 0

    @classmethod
    def empty(cls, settings: Settings) -> "Pool":
        """Return a pool without a crop."""
        n, size = settings.pool, settings.size
        return cls(
            images=np.zeros((n, size, size, 3), np.uint8),
            outlines=np.zeros((n, size, size), np.uint8),
            targets=np.zeros(n, np.int64),
            traits=np.zeros((n, len(TRAITS)), np.float32),
            widths=np.zeros(n, np.float32),
        )

    def draw(self, settings: Settings, number: int) -> np.ndarray:
        """Draw so many crops into the pool; return their places."""
        shares = {r: (k, w) for k, v in enumerate(CLASSES.values()) for r, w in v.items()}
        names = list(shares)
        weights = np.array([w for _, w in shares.values()])
        weights = np.append((1 - settings.unrelated) * weights / weights.sum(), settings.unrelated)
        places = np.empty(number, int)
        for i in range(number):
            rng = np.random.default_rng([settings.seed, self.drawn])
            at = self.drawn % settings.pool
            kind = rng.choice(len(weights), p=weights)
            if kind == len(names):
                self.images[at] = draw_unrelated(settings.size, rng)
                self.outlines[at] = 0
                self.targets[at] = -1
                self.traits[at] = np.nan
                width = float(np.exp(rng.uniform(np.log(4), np.log(60))))
                self.widths[at] = given_width(self.images[at], width, rng)
            else:
                severity = 1.1 * rng.random() ** 1.5
                crop = draw_crop(names[kind], settings.size, severity=severity, random_state=rng)
                self.images[at] = crop.image
                self.outlines[at] = np.where(crop.cell_map > 2, 0, crop.cell_map)
                self.targets[at] = shares[names[kind]][0]
                self.traits[at] = crop.traits
                self.widths[at] = given_width(
                    crop.image, settings.size * crop.micrometers_per_pixel, rng
                )
            places[i] = at
            self.drawn += 1
        self.filled = min(self.drawn, settings.pool)
        return places


def given_width(image: np.ndarray, width: float, rng: np.random.Generator) -> float:
    """Return the width of a crop as the network gets it: with an error, or 0 for not known.

    Parameters
    ----------
    image : uint8 array (size, size, 3)
    width : float
        In micrometers.
    rng : Generator

    Examples
    --------
    >>> crop = draw_crop("monocyte", 96, random_state=0)
    >>> width, rng = 96 * crop.micrometers_per_pixel, np.random.default_rng(0)
    >>> given = [given_width(crop.image, width, rng) for _ in range(20)]
    >>> 0 in given, bool(abs(np.log2(np.median(given) / width)) < 0.3)
    (True, True)
    """
    if (u := rng.random()) < UNKNOWN:
        return 0.0
    if u < UNKNOWN + MEASURED:
        seen = seen_width(image)
        return seen if np.isfinite(seen) else 0.0
    error = (0.7 if rng.random() < BLUNDER else ERROR) * rng.standard_normal()
    return float(width * 2**error)


def batches(settings: Settings, start: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield images, widths, outlines at a quarter of the size, targets and traits, step by step."""
    pool = Pool.empty(settings)
    number = max(int(settings.fresh * settings.batch), 1)
    pool.drawn = max(start * number - settings.pool, 0)
    while pool.drawn < start * number:  # what a run that was never stopped would have here
        pool.draw(settings, min(512, start * number - pool.drawn))
    for step in range(start, settings.steps):
        rng = np.random.default_rng([settings.seed, 2**31, step])
        fresh = pool.draw(settings, number)
        again = rng.integers(pool.filled, size=settings.batch - number)
        places = np.concatenate([fresh, again])
        images = torch.from_numpy(pool.images[places]).permute(0, 3, 1, 2).float() / 255
        outlines = torch.from_numpy(pool.outlines[places])
        turns = rng.integers(8, size=len(places))
        for k in range(8):
            rows = torch.from_numpy(np.flatnonzero(turns == k))
            if k and len(rows):
                images[rows] = _turned(images[rows], k)
                outlines[rows] = _turned(outlines[rows], k)
        traits = torch.from_numpy(pool.traits[places])
        widths = torch.from_numpy(pool.widths[places])
        images, outlines, traits, widths = _shaken(images, outlines, traits, widths, rng)
        images = _recolored(images, outlines, settings.recolored, rng)
        yield (
            images,
            widths,
            outlines[:, 2::4, 2::4].long(),
            torch.from_numpy(pool.targets[places]),
            traits,
        )


def _shaken(
    images: Tensor, outlines: Tensor, traits: Tensor, widths: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Zoom, shift and tint each image a little, so that a crop is never seen twice the same."""
    n = len(images)
    zoom = np.exp(rng.uniform(-0.2, 0.2, n)).astype(np.float32)
    move = 0.06 * rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    place = np.zeros((n, 2, 3), np.float32)
    place[:, 0, 0] = place[:, 1, 1] = 1 / zoom
    place[:, :, 2] = move
    grid = F.affine_grid(torch.from_numpy(place), [n, 3, *images.shape[2:]], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    outlines = F.grid_sample(
        outlines[:, None].float(), grid, mode="nearest", align_corners=False
    ).byte()[:, 0]
    traits = traits.clone()
    traits[:, TRAITS.index("share_of_width")] += torch.from_numpy(np.log(zoom))
    widths = widths / torch.from_numpy(zoom)
    images = _focused(images, rng)
    mix = np.eye(3) + 0.06 * rng.standard_normal((n, 3, 3))
    gray = np.exp(0.25 * rng.standard_normal((n, 1, 1)))  # more or less color than was drawn
    mix = mix @ (gray * np.eye(3) + (1 - gray) / 3)
    tone = np.exp(
        0.15 * rng.standard_normal((n, 1, 1, 1)) + 0.05 * rng.standard_normal((n, 3, 1, 1))
    )
    tinted = torch.einsum("nij,njhw->nihw", torch.from_numpy(mix.astype(np.float32)), images)
    toned = tinted.clamp(1e-4, 1) ** torch.from_numpy(tone.astype(np.float32))
    return toned, outlines, traits, widths


def _focused(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur or sharpen each image: no two laboratories show an edge alike."""
    amount = torch.from_numpy(rng.uniform(-1.5, 0.9, (len(images), 1, 1, 1)).astype(np.float32))
    wide = torch.from_numpy(rng.random((len(images), 1, 1, 1)) < 0.5)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    near, far = F.avg_pool2d(padded[..., 1:-1, 1:-1], 3, 1), F.avg_pool2d(padded, 5, 1)
    return (images + amount * (torch.where(wide, far, near) - images)).clamp(0, 1)


def _recolored(images: Tensor, outlines: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Recolor some of the images by their outlines, which predicted ones only come near to."""
    some = torch.from_numpy(np.flatnonzero(rng.random(len(images)) < share))
    kinds = F.one_hot(outlines[some].long(), 3).permute(0, 3, 1, 2).float()
    kinds = F.avg_pool2d(kinds, 4)
    off = np.exp(0.08 * rng.standard_normal((len(some), 3, 1, 1))).astype(np.float32)
    images = images.clone()
    images[some] = recolor(images[some], kinds) ** torch.from_numpy(off)
    return images


def restyle(maps: Tensor, share: float) -> Tensor:
    """Move mean and spread of each channel of an image as far as images of a batch differ in them.

    Laboratories differ in just that; see Li et al., "Uncertainty modeling for out-of-distribution
    generalization" (ICLR 2022).
    """
    mean = maps.mean(dim=(2, 3), keepdim=True)
    spread = (maps.var(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
    with torch.no_grad():
        chosen = (torch.rand(len(maps), 1, 1, 1) < share).float()
        move = torch.randn_like(mean) * mean.std(dim=0, keepdim=True) * chosen
        stretch = 1 + torch.randn_like(spread) * (spread.std(dim=0, keepdim=True) / spread) * chosen
    return (maps - mean) * stretch.clamp(0.3, 3.0) + mean + move


def _turned(x: Tensor, k: int) -> Tensor:
    x = torch.rot90(x, k % 4, (-2, -1))
    return x.flip(-1) if k >= 4 else x


def loss_of(
    seen: Seen, outlines: Tensor, targets: Tensor, traits: Tensor, smoothing: float
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of the four losses, and each alone."""
    cell = targets >= 0
    known = torch.isfinite(traits)
    gap = F.smooth_l1_loss(seen.traits, torch.nan_to_num(traits), reduction="none", beta=0.5)
    parts = {
        "type": F.cross_entropy(seen.logits[cell], targets[cell], label_smoothing=smoothing),
        "outline": F.cross_entropy(seen.outline, outlines),
        "traits": (gap * known).sum() / known.sum().clamp(min=1),
        "familiar": F.binary_cross_entropy_with_logits(seen.familiar, cell.float()),
    }
    total = parts["type"] + 0.5 * parts["outline"] + parts["traits"] + 0.3 * parts["familiar"]
    parts["accuracy"] = (seen.logits[cell].argmax(1) == targets[cell]).float().mean()
    return total, {name: float(value.detach()) for name, value in parts.items()}


def train(
    settings: Settings, out: Path, *, start_from: Path | None = None, checkpoint_every: int = 200
) -> Path:
    """Run all steps, or those that a stopped run left; return the file of weights.

    Parameters
    ----------
    settings : Settings
    out : path
        Folder of the checkpoint, the log and the result.
    start_from : path, optional
        Weights of an earlier run to begin with.
    checkpoint_every : int
        In steps.
    """
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    settings = _runs.on_this_processor(settings)
    net = network(settings).to(memory_format=torch.channels_last)
    if start_from is not None:
        _runs.load(net, start_from)
    for stage in (net.encoder.maxpool, *net.encoder.stages[:3]):
        stage.register_forward_hook(lambda _, __, maps: restyle(maps, settings.restyled))
    average = network(settings)
    average.load_state_dict(net.state_dict())
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain}],
        lr=settings.learning_rate,
        weight_decay=0.0,
    )
    start = _runs.resume(out, settings, net, average, optimizer)
    if start == 0:
        (out / "commit.txt").write_text(_runs.commit(), encoding="utf-8")
    sums: dict[str, float] = {}
    began, count = time.time(), 0
    for step, batch in enumerate(batches(settings, start), start):
        images, widths, outlines, targets, traits = batch
        for group in optimizer.param_groups:
            group["lr"] = rate(settings, step)
        net.train()
        # the draw of dropout must not depend on where a run was stopped
        torch.manual_seed(settings.seed + step)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
            seen = net(images.contiguous(memory_format=torch.channels_last), widths)
        seen = Seen(*(part.float() for part in vars(seen).values()))
        loss, parts = loss_of(seen, outlines, targets, traits, settings.smoothing)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        move_toward(average, net, 1 - min(settings.decay, (step + 1) / (step + 10)))
        sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
        count += 1
        if (step + 1) % 50 == 0 or step + 1 == settings.steps:
            means = ", ".join(f"{name} {value / count:.3f}" for name, value in sums.items())
            print(f"step {step + 1}/{settings.steps}: {means}, {time.time() - began:.0f} s",
                  flush=True)  # fmt: skip
            sums, count = {}, 0
        if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
            _runs.keep(out, settings, step + 1, net, average, optimizer)
    return finish(settings, average.eval(), out, start_from)


def network(settings: Settings) -> BloodCellNet:
    """Return the network of a run, untrained."""
    return BloodCellNet(
        len(CLASSES),
        len(TRAITS),
        channels=settings.channels,
        depths=settings.depths,
        dropout=settings.dropout,
    )


def rate(settings: Settings, step: int) -> float:
    """Return the learning rate: a short rise, long constant, at the end a cosine to 0.

    Until the descent it does not depend on the number of steps, so a run can be made longer.
    """
    fall = (1 - settings.descent) * settings.steps
    level = min((step + 1) / 200, 1.0)
    if step > fall:
        level *= 0.5 * (1 + math.cos(math.pi * (step - fall) / (settings.steps - fall)))
    return settings.learning_rate * (level + 1e-3)


def finish(settings: Settings, net: BloodCellNet, out: Path, start_from: Path | None) -> Path:
    """Write the weights as float16, calibrate them on crops of unseen seeds, write the card."""
    from safetensors.torch import save_file

    weights = {
        name: value.half().contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = out / "blood-cells.safetensors"
    save_file(weights, path)
    path.chmod(0o644)
    calibration, scores = calibrated(settings, path)
    card = ModelCard(
        name="blood-cells",
        task="crop of one cell of a stained film to its type, one of "
        f"{len(CLASSES)}, with an embedding and an outline",
        training_data=f"{int(settings.steps * settings.batch * settings.fresh):,} cells drawn by "
        f"hemaest.datasets.crops, no real image{_runs.origin(start_from)}",
        command=_runs.command_of("cells", settings, start_from),
        commit=(out / "commit.txt").read_text(encoding="utf-8"),
        sha256=file_hash(path),
        classes=tuple(CLASSES),
        scores={"rendered, unseen seeds": scores},
        settings=asdict(settings),
        calibration=calibration,
    )
    write_card(card, out)
    return path


def calibrated(
    settings: Settings, path: Path, number: int = 1536
) -> tuple[dict[str, float], dict[str, float]]:
    """Return weight of the second look, temperature and least familiarity, and scores.

    All on crops of seeds that training did not see, at a resolution that two looks are made for.
    """
    from safetensors.numpy import load_file

    from hemaest.images import to_object_array
    from hemaest.pretrained.cells import BloodCellClassifier

    model = BloodCellClassifier(n_jobs=1)
    model._build(load_file(path), asdict(settings))
    shares = [(k, recipe, w) for k, v in enumerate(CLASSES.values()) for recipe, w in v.items()]
    weights = np.array([w for _, _, w in shares])
    truth, images = np.empty(number, int), []
    for i in range(number):
        rng = np.random.default_rng([settings.seed, 2**32, i])
        truth[i], recipe, _ = shares[rng.choice(len(shares), p=weights / weights.sum())]
        severity = 1.1 * rng.random() ** 1.5
        images.append(draw_crop(recipe, 240, severity=severity, random_state=rng).image)
    first, second = model.look(to_object_array(images))
    best = (np.inf, 0.0, 1.0)
    for share in np.linspace(0, 1, 21):
        logits = torch.from_numpy((1 - share) * first.logits + share * second.logits)
        for temperature in np.linspace(0.4, 2.5, 43):
            loss = float(F.cross_entropy(logits / temperature, torch.from_numpy(truth)))
            best = min(best, (loss, float(share), float(temperature)))
    loss, share, temperature = best
    found = ((1 - share) * first.logits + share * second.logits).argmax(axis=1)
    recall = [np.mean(found[truth == k] == k) for k in range(len(CLASSES))]
    scores = {
        "accuracy": float(np.mean(found == truth)),
        "balanced accuracy": float(np.mean(recall)),
        "log loss": loss,
    }
    # one in a hundred rendered crops may be called unfamiliar
    familiar = float(np.quantile(first.familiar, 0.01))
    calibration = {"second_look": share, "temperature": temperature, "familiar": familiar}
    return calibration, {name: round(value, 4) for name, value in scores.items()}


def main() -> None:
    """Read the command line and train."""
    settings, out, start = _runs.parsed(Settings(), __doc__.splitlines()[0])
    print(train(settings, out, start_from=_runs.first_weights(start, out)))


if __name__ == "__main__":
    main()
