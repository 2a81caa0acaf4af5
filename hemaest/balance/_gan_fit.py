"""What the GAN estimator does with torch: make the nets, train them, draw from them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from hemaest.balance._gan_training import Run, Settings, generate, picture_grid, train
from hemaest.deep.augmentation import STANDARD, augment_batch
from hemaest.deep.batches import LetterboxedImages, to_floats
from hemaest.deep.checkpoints import checkpoint_path, stored_seed
from hemaest.deep.training import TrainingDiverged
from hemaest.nets.devices import resolve_device, resolve_precision, seeded
from hemaest.nets.gan import Discriminator, Generator
from hemaest.nets.weights import to_arrays, to_tensors

if TYPE_CHECKING:
    from hemaest.balance._acdbgan import ACDBGAN

PICTURES_PER_CLASS = 8


def default_penalty(image_size: int) -> float:
    """Return the weight of the penalties: slopes over more pixels are smaller.

    Examples
    --------
    >>> default_penalty(32), default_penalty(64)
    (0.02, 0.08)
    """
    return 0.02 * (image_size / 32) ** 2


def make_run(gan: "ACDBGAN", n_classes: int, seed: int) -> Run:
    """Return the untrained nets of an estimator, ready to be trained."""
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
    )
    with seeded(seed, device):
        generator = Generator(
            n_classes, gan.image_size, latent_size=gan.latent_size, width=gan.width
        )
        discriminator = Discriminator(n_classes, gan.image_size, width=gan.width)
    return Run(generator, discriminator, settings, device, precision)


def begun(
    gan: "ACDBGAN", X: NDArray[Any], target: NDArray[np.int64], groups: Any, seed: int
) -> tuple[str | None, int]:
    """Return the checkpoint of a run, and the seed it was begun with if it was."""
    if gan.checkpoint_dir is None:
        return None, seed
    named: Any = gan
    checkpoint = checkpoint_path(named, X, target, groups)
    return checkpoint, stored_seed(checkpoint, default=seed)


def fit_generator(
    gan: "ACDBGAN", X: NDArray[Any], target: NDArray[np.int64], checkpoint: str | None, seed: int
) -> None:
    """Train on the classes that have enough images; the estimator adopts what was learnt."""
    rows = np.flatnonzero(gan.learnt_[target])
    run = make_run(gan, len(gan.classes_), seed)
    watch = None if gan.picture_dir is None else painter(Path(gan.picture_dir), gan.learnt_, seed)
    squares = LetterboxedImages(X[rows], gan.image_size, cache=True)
    try:
        interrupted = train(
            run, squares, target[rows], checkpoint=checkpoint, watch=watch, show=gan.verbose
        )
    except TrainingDiverged:
        # the weights from before are worth having
        gan._adopt(to_arrays(run.average.module), run.history)
        raise
    gan._adopt(to_arrays(run.average.module), run.history)
    if interrupted:
        warnings.warn(
            f"training of the GAN was interrupted at step {run.step} of {gan.max_steps}; what was "
            "learnt until then is kept.",
            stacklevel=5,
        )


def painter(folder: Path, learnt: NDArray[np.bool_], seed: int) -> Callable[[Run], None]:
    """Return the watcher that draws the same noise again and again, one row for each class."""
    folder.mkdir(parents=True, exist_ok=True)
    label = np.repeat(np.flatnonzero(learnt), PICTURES_PER_CLASS)

    def paint(run: Run) -> None:
        random = torch.Generator().manual_seed(seed)
        images = generate(run.average.module, label, random, run.device)
        picture_grid(images, PICTURES_PER_CLASS, folder / f"step-{run.step:06d}.png")

    return paint


def drawer(gan: "ACDBGAN", code: int, seed: list[int]) -> Callable[[int], NDArray[np.uint8]]:
    """Return the function that draws n more images of a class."""
    device = resolve_device(gan.device, strict=False)
    with seeded(0, device):
        net = Generator(
            len(gan.classes_), gan.image_size, latent_size=gan.latent_size, width=gan.width
        )
    net.load_state_dict(to_tensors(gan.weights_))
    net.to(device, memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**31)))
    return lambda n: generate(net, np.full(n, code, np.int64), random, device)


def few_squares(
    X: NDArray[Any], target: NDArray[np.int64], few: NDArray[np.bool_], size: int
) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.intp]]]:
    """Return the squares and rows of each class that is too small to be learnt."""
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
