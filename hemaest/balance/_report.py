"""Synthetic cells beside real ones: in numbers, and in a figure that shows copies."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest._seeds import seed_of
from hemaest._tables import format_table
from hemaest.balance._encoders import ENCODERS, make_encoder
from hemaest.balance.fidelity import ImageSets
from hemaest.base import did_you_mean
from hemaest.deep.letterbox import letterbox
from hemaest.groups import check_labels
from hemaest.images import as_array, check_images

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = 8


@dataclass
class GenerativeReport:
    """What :func:`generative_report` found.

    Parameters
    ----------
    table : DataFrame
        One row for each class, and one for all together.
    encoder : str
        What measured likeness. Scores of different encoders are not comparable.
    images : dict
        By class: rows of real cells, synthetic cells, and below each of those the nearest training
        cell.
    """

    table: "pd.DataFrame"
    encoder: str
    images: dict[str, tuple[NDArray[np.uint8], ...]]

    def __str__(self) -> str:
        return (
            f"{format_table(self.table)}\n\nEncoder: {self.encoder}. Scores of different encoders "
            "are not comparable."
        )

    def plot(self) -> "Figure":
        """Draw real and synthetic cells by class, the nearest training cell below each.

        Returns
        -------
        figure : matplotlib Figure
        """
        import matplotlib.pyplot as plt

        n = len(self.images)
        figure, axes = plt.subplots(n, 1, figsize=(9, 3.5 * n), squeeze=False, layout="compressed")
        for ax, (label, sheets) in zip(axes[:, 0], self.images.items(), strict=True):
            _draw_sheets(ax, label, sheets)
        figure.suptitle("Real and synthetic cells")
        return figure


def _draw_sheets(ax: Any, label: str, sheets: tuple[NDArray[np.uint8], ...]) -> None:
    size = sheets[0].shape[1]
    gap = max(1, size // 16)
    rows = []
    for sheet in sheets:
        tiles = np.full((SHOWN, size, size + gap, 3), 255, np.uint8)
        tiles[: len(sheet), :, gap // 2 : gap // 2 + size] = sheet
        row = np.concatenate(list(tiles), axis=1)
        rows.append(np.pad(row, ((0, gap), (0, 0), (0, 0)), constant_values=255))
    ax.imshow(np.concatenate(rows), interpolation="nearest")
    middle = np.arange(3) * (size + gap) + size / 2
    ax.set_yticks(middle, ["real", "synthetic", "nearest in\ntraining"])
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(label, loc="left")


def generative_report(
    real: Any,
    synthetic: Any,
    real_labels: ArrayLike | None = None,
    synthetic_labels: ArrayLike | None = None,
    *,
    training: Any = None,
    training_labels: ArrayLike | None = None,
    encoder: Any = "auto",
    image_size: int | None = None,
    device: str = "auto",
    random_state: Any = None,
) -> GenerativeReport:
    """Judge synthetic images against real ones: realism, variety and memory.

    Give as ``real`` what the generator never saw, and as ``training`` its training images.
    Otherwise copies look like realism.

    Parameters
    ----------
    real, synthetic : images
        As :func:`hemaest.images.check_images` takes them.
    real_labels, synthetic_labels : array-like, optional
        Give both, and there is a row for each class.
    training : images, optional
        Training images of the generator, for the test of memory; without it one half of ``real``
        stands for it, and the test sees half of what was copied from there.
    training_labels : array-like, optional
        Of ``training``.
    encoder : {"auto", "inception", "fitted"} or fitted estimator, default="auto"
        What measures likeness. ``"auto"`` takes the Inception net of the published FID where its
        weights are on this machine, else a small network that is fitted on ``training``. A fitted
        :class:`~hemaest.deep.ImageClassifier`, :class:`~hemaest.deep.DeepEmbedding` or
        :class:`~hemaest.deep.FCMAEPretrainer` of your own lets several reports be compared.
    image_size : int, optional
        Side at which all are compared; by default that of the first synthetic image.
    device : str, default="auto"
        Of a fitted encoder.
    random_state : int, RandomState or None
        Seed of a fitted encoder, of pairs and of subsets.

    Returns
    -------
    report : GenerativeReport
        ``table`` has, for each class: ``fid``; ``kid`` with its 95% interval; ``precision``,
        ``recall``, ``density`` and ``coverage``; the mean SSIM and the mean perceptual distance of
        pairs of real and of synthetic images (their variety: ``ssim_real``, ...); and
        ``memorized``, the share of synthetic images that lie nearer to a training image of their
        class than the 1st percentile of unseen real ones of all classes, each distance taken as
        part of the median of its class. What a generator that copies nothing would show stands
        beside it as ``memorized_by_chance``: .01 from 99 unseen
        images on, more with fewer. ``plot()`` draws them.

    Examples
    --------
    >>> from hemaest.balance import generative_report
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(60, image_size=32, classes=["neutrophil", "lymphocyte"], random_state=0)
    >>> report = generative_report(
    ...     cells.images[:30], cells.images[30:], encoder="fitted", random_state=0
    ... )
    >>> report.table[["class", "real", "synthetic"]].values.tolist()
    [['all', 30, 30]]
    >>> report.encoder
    'a small network of hemaest at 32 px, fitted on 15 real images and 8 clusters of them'
    """
    _need_packages()
    if isinstance(encoder, str) and encoder not in ENCODERS:
        raise ValueError(
            f"encoder={encoder!r}; it must be one of {', '.join(ENCODERS)}, or a fitted classifier."
            f"{did_you_mean(encoder, ENCODERS)}"
        )
    real = check_images(real, estimator="generative_report")
    synthetic = check_images(synthetic, estimator="generative_report")
    if min(len(real), len(synthetic)) < 4:
        raise ValueError(
            f"there are {len(real)} real and {len(synthetic)} synthetic images; at least 4 of each "
            "are needed, and some hundred to say anything."
        )
    if (real_labels is None) != (synthetic_labels is None):
        raise ValueError("give real_labels and synthetic_labels, or neither.")
    if training is not None and real_labels is not None and training_labels is None:
        raise ValueError("give training_labels too: copies are looked for within a class.")
    size = image_size or as_array(synthetic[0]).shape[0]
    sets = [_squares(real, size), _squares(synthetic, size)]
    labels = [labels_of(real_labels, len(real)), labels_of(synthetic_labels, len(synthetic))]
    if training is None:
        # one half stands for training images, the other for new ones
        half = alternate(labels[0])
        sets.append(sets[0][half])
        seen, genuine = labels[0][half], ~half
    else:
        sets.append(_squares(check_images(training, estimator="generative_report"), size))
        seen, genuine = labels_of(training_labels, len(sets[2])), np.ones(len(real), bool)
    labels.append(seen if real_labels is not None else labels_of(None, len(seen)))
    check_that_labels_meet(*labels)
    made = make_encoder(
        encoder, sets[2], seen, image_size=size, device=device, random_state=random_state
    )
    compared = ImageSets(made, sets, labels, genuine, seed_of(random_state))
    if compared.n_seen:
        warnings.warn(
            f"{compared.n_seen} of {len(real)} real images are training images too, to the pixel "
            "or turned. `memorized` leaves them out; the other measures do not, and flatter: give "
            "as `real` what the generator never saw.",
            stacklevel=2,
        )
    import pandas as pd

    return GenerativeReport(
        pd.DataFrame(compared.table()),
        made.name,
        {
            str(label): compared.images(label, SHOWN)
            for label in compared.classes
            if len(compared.rows(1, label))
        },
    )


def _squares(images: NDArray[Any], size: int) -> NDArray[np.uint8]:
    return np.stack([letterbox(as_array(image), size) for image in images])


def _need_packages() -> None:
    try:
        import pandas  # noqa: F401
        import torchmetrics  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"generative_report needs {error.name}: pip install 'hemaest[generative]'."
        ) from error


def labels_of(labels: ArrayLike | None, n: int) -> NDArray[Any]:
    """Return checked labels, all alike where none are given."""
    if labels is None:
        return np.full(n, "all", dtype=object)
    return check_labels(labels, n, "generative_report")


def check_that_labels_meet(
    real: NDArray[Any], synthetic: NDArray[Any], training: NDArray[Any]
) -> None:
    """Raise where synthetic labels have no class in common with others."""
    made = set(synthetic.tolist())
    for name, labels in (("real_labels", real), ("training_labels", training)):
        if made.isdisjoint(labels.tolist()):
            raise ValueError(
                f"synthetic_labels {np.unique(synthetic).tolist()} and {name} "
                f"{np.unique(labels).tolist()} have no class in common; call the classes alike."
            )


def alternate(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return every second image of each class.

    Examples
    --------
    >>> alternate(np.array(["a", "b", "a", "a", "b"]))
    array([ True,  True, False,  True, False])
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[::2]] = True
    return chosen
