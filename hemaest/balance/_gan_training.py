"""Train the GAN with torch and draw from it: networks, steps, averaged weights, checkpoints.

:class:`~hemaest.balance.ACDBGAN` calls :func:`fit_generator` and :func:`drawer`, and is their
argument ``gan``.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.utils import ModelEmaV3
from torch import Tensor

from hemaest._progress import track
from hemaest.deep.augmentation import STANDARD, augment_batch
from hemaest.deep.batches import LetterboxedImages, prefetch, to_floats
from hemaest.deep.checkpoints import checkpoint_path, stored_seed, write_atomically
from hemaest.deep.optimization import BatchTooLarge, is_out_of_memory, warmup_cosine
from hemaest.deep.training import TrainingDiverged, weights_of
from hemaest.images import to_object_array
from hemaest.nets.devices import autocast, resolve_device, resolve_precision, seeded
from hemaest.nets.gan import (
    Discriminator,
    Generator,
    Refiner,
    augment_for_discriminator,
    dihedral_views,
    gradient_penalty,
    relativistic_losses,
    structure_loss,
    uniform,
)
from hemaest.nets.weights import to_arrays, to_tensors

# the class begins to count after this share of a run, and counts in full after the second
CONDITIONING = (0.05, 0.3)
# how much more often than by its size a small class is shown: the power of its count
POWER = 0.5
PICTURES_PER_CLASS = 8
# rendered cells of each class that a refiner learns with
SOURCES_PER_CLASS = 256


@dataclass(frozen=True)
class Settings:
    """What decides a run."""

    max_steps: int
    batch_size: int
    lr: float
    penalty: float
    penalty_every: int
    report_every: int
    seed: int
    structure: float = 0.0


class Sources:
    """The rendered cells that a refiner starts from.

    Parameters
    ----------
    renderer : RenderedCellSampler
        Matched to the training images.
    classes : array
        Labels.
    size : int
        Side of the squares.
    """

    def __init__(self, renderer: Any, classes: NDArray[Any], size: int) -> None:
        self.renderer = renderer
        self.classes = classes
        self.size = size
        self.pool: dict[int, Tensor] = {}

    def draw(self, n: int, code: int, seed: Any) -> Tensor:
        """Return n new cells of a class as uint8 squares (n, size, size, 3)."""
        seed = int(np.random.default_rng(seed).integers(2**31))
        cells = self.renderer.draw(n, self.classes[code], random_state=seed)
        squares = LetterboxedImages(to_object_array(cells[..., :3]), self.size)
        return torch.from_numpy(squares.take(np.arange(n)))

    def fill(self, codes: NDArray[np.intp], seed: int) -> None:
        """Draw the cells of each class that training takes from."""
        self.pool = {c: self.draw(SOURCES_PER_CLASS, c, [seed, c, 1]) for c in codes.tolist()}

    def take(self, label: Tensor, random: torch.Generator) -> Tensor:
        """Return one cell of each label as uint8 squares, drawn from the pool."""
        rows = torch.randint(SOURCES_PER_CLASS, (len(label),), generator=random).tolist()
        pairs = zip(label.tolist(), rows, strict=True)
        return torch.stack([self.pool[code][row] for code, row in pairs])


@dataclass
class Run:
    """Two networks, their optimizers and the averaged generator, on one device.

    Parameters
    ----------
    generator, discriminator : Module
        Freshly made.
    settings : Settings
    device : device
    precision : dtype
        Of the forward passes.
    sources : Sources, optional
        Of a refiner.
    """

    generator: Generator | Refiner
    discriminator: Discriminator
    settings: Settings
    device: torch.device
    precision: torch.dtype
    sources: Sources | None = None
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        like_convolutions: Any = {"memory_format": torch.channels_last}
        self.generator.to(self.device, **like_convolutions)
        self.discriminator.to(self.device, **like_convolutions)
        fused = self.device.type == "cuda"
        self.optimizers = [
            torch.optim.Adam(net.parameters(), lr=self.settings.lr, betas=(0.0, 0.99), fused=fused)
            for net in (self.generator, self.discriminator)
        ]
        # the average looks back over a twentieth of the run
        decay = 1 - 1 / max(10, self.settings.max_steps / 20)
        self.average = ModelEmaV3(self.generator, decay=decay, use_warmup=True, warmup_power=0.75)
        self.random = torch.Generator()

    @property
    def conditioning(self) -> float:
        """How much the class counts now."""
        begin, end = CONDITIONING
        done = self.step / max(1, self.settings.max_steps)
        return min(1.0, max(0.0, (done - begin) / (end - begin)))

    def noise(self, n: int) -> Tensor:
        """Return noise that a seed gives alike on every device."""
        z = torch.randn(n, self.generator.latent_size, generator=self.random)
        return z.to(self.device, non_blocking=True)

    def source(self, label: Tensor) -> dict[str, Tensor]:
        """Return what a refiner starts from, by the name of its argument; nothing for noise."""
        if self.sources is None:
            return {}
        images = to_floats(self.sources.take(label, self.random), self.device).mul_(2).sub_(1)
        return {"source": dihedral_views(images, uniform(self.random, len(images), 3, images))}

    def learn(self, real: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Do one step of both networks on real images from -1 to 1."""
        factor = warmup_cosine(self.step, self.settings.max_steps, 0.02, 0.05)
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = self.settings.lr * factor
        found = self._learn_discriminator(real, label)
        found["generator_loss"] = self._learn_generator(real, label)
        self.step += 1
        self.average.update(self.generator, self.step)
        return found

    def _scores(self, real: Tensor, fake: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both images as the discriminator looks at them, and its scores of each."""
        seen = augment_for_discriminator(torch.cat([real, fake]), self.random)
        seen = seen.contiguous(memory_format=torch.channels_last)
        if not fake.requires_grad:
            seen.requires_grad_(True)
        with autocast(self.device, self.precision):
            scores = self.discriminator(seen, label.repeat(2), self.conditioning).float()
        return seen, *scores.chunk(2)

    def _learn_discriminator(self, real: Tensor, label: Tensor) -> dict[str, Tensor]:
        settings = self.settings
        noise, source = self.noise(len(real)), self.source(label)
        with torch.no_grad(), autocast(self.device, self.precision):
            fake = self.generator(noise, label, self.conditioning, **source).float()
        seen, of_real, of_fake = self._scores(real, fake, label)
        loss, _ = relativistic_losses(of_real, of_fake)
        total, penalty = loss, None
        if self.step % settings.penalty_every == 0:
            # over real and fake together: R1 and R2, each at weight 1/2 of the penalty
            penalty = gradient_penalty(torch.cat([of_real, of_fake]), seen)
            total = loss + settings.penalty_every * settings.penalty * penalty
        self.optimizers[1].zero_grad(set_to_none=True)
        total.backward()
        self.optimizers[1].step()
        found = {"discriminator_loss": loss.detach()}
        return found if penalty is None else found | {"penalty": penalty.detach()}

    def _learn_generator(self, real: Tensor, label: Tensor) -> Tensor:
        self.discriminator.requires_grad_(False)
        noise, source = self.noise(len(real)), self.source(label)
        with autocast(self.device, self.precision):
            fake = self.generator(noise, label, self.conditioning, **source).float()
        _, of_real, of_fake = self._scores(real, fake, label)
        _, loss = relativistic_losses(of_real, of_fake)
        total = loss
        if source:
            total = loss + self.settings.structure * structure_loss(fake, source["source"])
        self.optimizers[0].zero_grad(set_to_none=True)
        total.backward()
        self.optimizers[0].step()
        self.discriminator.requires_grad_(True)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Return all that a checkpoint needs."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "history": self.history,
            "seed": self.settings.seed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.module.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.history = state["step"], state["history"]


def draw_rows(target: NDArray[np.int64], n: int, size: int, seed: list[int]) -> Any:
    """Return the rows of n batches, small classes shown more often than by their size."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(target)
    chance = counts[target] ** (POWER - 1.0)
    return list(rng.choice(len(target), (n, size), p=chance / chance.sum()))


def batches(
    run: Run, squares: LetterboxedImages, target: NDArray[np.int64], last: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images from -1 to 1, labels) up to a step; each stretch has a seed of its own."""
    settings = run.settings
    rows = draw_rows(target, last - run.step, settings.batch_size, [settings.seed, run.step, last])
    labels = torch.from_numpy(target)
    for chosen, images in prefetch(squares, rows, pin=run.device.type == "cuda"):
        yield to_floats(images, run.device).mul_(2).sub_(1), labels[chosen].to(run.device)


def train(
    run: Run,
    squares: LetterboxedImages,
    target: NDArray[np.int64],
    *,
    checkpoint: str | None = None,
    watch: Callable[[Run], None] | None = None,
    show: bool | None = None,
) -> None:
    """Train until the last step. An interrupt (Ctrl-C) is raised; a checkpoint stays.

    Parameters
    ----------
    run : Run
    squares : LetterboxedImages
        The images.
    target : int array
        Their classes, from 0.
    checkpoint : str, optional
        A file that is replaced after each stretch of steps; a run continues from it.
    watch : callable, optional
        Called after each stretch of steps; it draws sample images.
    show : bool, optional
        Whether to show a progress bar; by default when a person is watching.
    """
    settings = run.settings
    if checkpoint is not None and os.path.exists(checkpoint):
        run.restore(torch.load(checkpoint, map_location=run.device, weights_only=True))
    good = weights_of(run.average.module)
    try:
        steps = track(_steps(run, squares, target), "GAN", settings.max_steps - run.step, show=show)
        for _ in steps:
            if run.step % settings.report_every and run.step < settings.max_steps:
                continue
            _check_finite(run)
            good = weights_of(run.average.module)
            if checkpoint is not None:
                write_atomically(run.state(), checkpoint)
            if watch is not None:
                watch(run)
    except TrainingDiverged:
        run.average.module.load_state_dict(good)
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise BatchTooLarge(
            f"batch_size={settings.batch_size} does not fit into the memory of {run.device} "
            f"({str(error).splitlines()[0][:120]}); halve it, or take a smaller width or "
            "image_size."
        ) from error


def _steps(run: Run, squares: LetterboxedImages, target: NDArray[np.int64]) -> Iterator[None]:
    """Do the steps, one stretch after the other, and note the figures of each stretch."""
    settings = run.settings
    while run.step < settings.max_steps:
        first = run.step
        last = min(settings.max_steps, (first // settings.report_every + 1) * settings.report_every)
        run.random.manual_seed(int(np.random.default_rng([settings.seed, first]).integers(2**31)))
        found: dict[str, list[Tensor]] = {}
        start = time.perf_counter()
        with torch.backends.cudnn.flags(benchmark=True, deterministic=False):
            for real, label in batches(run, squares, target, last):
                for name, value in run.learn(real, label).items():
                    found.setdefault(name, []).append(value)
                if run.step == last:
                    seconds = time.perf_counter() - start
                    means = {name: float(torch.stack(v).mean()) for name, v in found.items()}
                    rate = (last - first) * settings.batch_size / seconds
                    run.history.append({"step": float(last), **means, "images_per_second": rate})
                yield


def _check_finite(run: Run) -> None:
    row = run.history[-1]
    if not all(math.isfinite(value) for value in row.values()):
        before = run.history[-2]["step"] if len(run.history) > 1 else 0
        raise TrainingDiverged(
            f"the losses of the GAN are no longer finite at step {run.step}; the weights of step "
            f"{before:g} are kept. Try a lower lr (now {run.settings.lr:g}) or precision='float32'."
        )


def picture_grid(images: NDArray[np.uint8], n_columns: int, path: Path) -> None:
    """Write images side by side into one PNG."""
    from PIL import Image

    n, height, width, _ = images.shape
    rows = images.reshape(n // n_columns, n_columns, height, width, 3)
    sheet = rows.swapaxes(1, 2).reshape(-1, n_columns * width, 3)
    Image.fromarray(sheet).save(path)


@torch.no_grad()
def generate(
    net: Generator | Refiner,
    label: NDArray[np.int64],
    random: torch.Generator,
    device: torch.device,
    source: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Return one image of each label, in batches of flat memory; a refiner needs its sources.

    Each is mirrored and turned at random: the discriminator looked at all eight views alike, so
    which of them the generator draws means nothing.

    Examples
    --------
    >>> class OneFace(torch.nn.Module):
    ...     latent_size = 4
    ...     def forward(self, noise, label):
    ...         return torch.linspace(-1, 1, 64).view(1, 1, 8, 8).expand(len(noise), 3, 8, 8)
    >>> random, device = torch.Generator().manual_seed(0), torch.device("cpu")
    >>> images = generate(OneFace(), np.zeros(200, int), random, device)
    >>> views = {np.rot90(f, k).tobytes() for f in (images[0], images[0][::-1]) for k in range(4)}
    >>> len(views), {image.tobytes() for image in images} == views
    (8, True)
    """
    found = []
    net.eval()
    for start in range(0, len(label), 64):
        part = torch.from_numpy(label[start : start + 64]).to(device)
        noise = torch.randn(len(part), net.latent_size, generator=random).to(device)
        given = {}
        if source is not None:
            given["source"] = to_floats(source[start : start + 64], device).mul_(2).sub_(1)
        images = dihedral_views(net(noise, part, **given), uniform(random, len(part), 3, noise))
        images = ((images + 1) * 127.5).round_().clamp_(0, 255).byte()
        found.append(images.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    return np.concatenate(found)


def default_penalty(image_size: int) -> float:
    """Return the weight of the penalties: slopes over more pixels are smaller.

    Examples
    --------
    >>> default_penalty(32), default_penalty(64)
    (0.02, 0.08)
    """
    return 0.02 * (image_size / 32) ** 2


def make_run(gan: Any, n_classes: int, seed: int) -> Run:
    """Return the untrained networks of an estimator, ready to be trained."""
    device = resolve_device(gan.device)
    # slopes of a discriminator gain nothing by half precision on a CPU, and overflow in float16
    precision = resolve_precision(gan.precision, device)
    if precision == torch.float16:
        precision = torch.float32
    settings = Settings(
        gan.max_steps,
        gan.batch_size,
        gan.lr,
        default_penalty(gan.image_size) if gan.penalty == "auto" else gan.penalty,
        gan.penalty_every,
        gan.report_every,
        seed,
        gan.structure,
    )
    with seeded(seed, device):
        generator = make_generator(gan, n_classes)
        discriminator = Discriminator(n_classes, gan.image_size, width=gan.width)
    return Run(generator, discriminator, settings, device, precision)


def make_generator(gan: Any, n_classes: int) -> Generator | Refiner:
    """Return the untrained generator of an estimator."""
    if gan.source == "rendered":
        return Refiner(n_classes, latent_size=gan.latent_size, width=gan.width)
    return Generator(n_classes, gan.image_size, latent_size=gan.latent_size, width=gan.width)


def resume_checkpoint(
    gan: Any, X: NDArray[Any], target: NDArray[np.int64], groups: Any, seed: int
) -> tuple[str | None, int]:
    """Return the checkpoint of a run, and the seed it was started with if it was."""
    if gan.checkpoint_dir is None:
        return None, seed
    named: Any = gan
    checkpoint = checkpoint_path(named, X, target, groups)
    return checkpoint, stored_seed(checkpoint, default=seed)


def fit_generator(
    gan: Any, X: NDArray[Any], target: NDArray[np.int64], checkpoint: str | None, seed: int
) -> None:
    """Train on the classes that have enough images; the estimator adopts the result."""
    shown = gan.learned_ & gan.drawable_
    rows = np.flatnonzero(shown[target])
    run = make_run(gan, len(gan.classes_), seed)
    if gan.renderer_ is not None:
        run.sources = Sources(gan.renderer_, gan.classes_, gan.image_size)
        run.sources.fill(np.flatnonzero(shown), seed)
    watch = None if gan.image_dir is None else painter(Path(gan.image_dir), shown, seed)
    squares = LetterboxedImages(X[rows], gan.image_size, cache=True)
    try:
        train(run, squares, target[rows], checkpoint=checkpoint, watch=watch, show=gan.verbose)
    except TrainingDiverged:
        # the weights from before are worth having
        gan._adopt(to_arrays(run.average.module), run.history)
        raise
    gan._adopt(to_arrays(run.average.module), run.history)


def painter(folder: Path, trained: NDArray[np.bool_], seed: int) -> Callable[[Run], None]:
    """Return the watcher that draws the same noise again and again, one row for each class."""
    folder.mkdir(parents=True, exist_ok=True)
    label = np.repeat(np.flatnonzero(trained), PICTURES_PER_CLASS)

    def paint(run: Run) -> None:
        random = torch.Generator().manual_seed(seed)
        source = None
        if run.sources is not None:
            source = run.sources.take(torch.from_numpy(label), random)
        images = generate(run.average.module, label, random, run.device, source)
        picture_grid(images, PICTURES_PER_CLASS, folder / f"step-{run.step:06d}.png")

    return paint


def drawer(gan: Any, code: int, seed: list[int]) -> Callable[[int], NDArray[np.uint8]]:
    """Return the function that draws n more images of a class."""
    device = resolve_device(gan.device, strict=False)
    with seeded(0, device):
        net = make_generator(gan, len(gan.classes_))
    net.load_state_dict(to_tensors(gan.weights_))
    net.to(device, memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**31)))
    if gan.renderer_ is None:
        return lambda n: generate(net, np.full(n, code, np.int64), random, device)
    sources = Sources(gan.renderer_, gan.classes_, gan.image_size)

    def refine(n: int) -> NDArray[np.uint8]:
        drawn = int(torch.randint(2**31 - 1, (), generator=random))
        source = sources.draw(n, code, [*seed, drawn])
        return generate(net, np.full(n, code, np.int64), random, device, source)

    return refine


def few_squares(
    X: NDArray[Any], target: NDArray[np.int64], few: NDArray[np.bool_], size: int
) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.intp]]]:
    """Return the squares and rows of each class that is too small to train on."""
    found = {}
    for code in np.flatnonzero(few).tolist():
        rows = np.flatnonzero(target == code)
        found[code] = (LetterboxedImages(X, size).take(rows), rows)
    return found


def augmented_copies(
    squares: NDArray[np.uint8], rows: NDArray[np.intp], n: int, seed: list[int]
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return n turned, shifted and restained copies, and the rows that they are copies of."""
    chosen = np.resize(np.arange(len(squares)), n)
    random = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**31)))
    images = to_floats(torch.from_numpy(squares[chosen]), torch.device("cpu"))
    changed = augment_batch(images, STANDARD, random).mul(255).round().clamp(0, 255).byte()
    return changed.permute(0, 2, 3, 1).contiguous().numpy(), rows[chosen]
