"""Rendered cells as a sampler: rare classes are filled with cells that the renderer draws.

Recipes offer it as ``balance="rendered"``. The label comes with the shape, so a class of a few
images gains shapes that none of them has; stain, scale and background are those of the fold.
"""

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from hemaest import cellmap
from hemaest._seeds import seed_of
from hemaest.balance._quota import deficits
from hemaest.base import HasMethods, ImageEstimator, Interval, did_you_mean
from hemaest.datasets import list_cell_types, make_cells
from hemaest.groups import check_labels
from hemaest.images import as_array, pack, rgb
from hemaest.segmentation import CellSegmenter
from hemaest.stain import ReinhardNormalizer

SYNTHETIC = -1
# images of the fold, and as many rendered ones, that scale and stain are measured on
N_PROBES = 60
# width of the rendered probes, and the limits of what is drawn, in micrometers
PROBE_FIELD, SMALLEST_FIELD, LARGEST_FIELD = 30.0, 8.0, 120.0
# words for types of the renderer that data sets use
ALIASES = {
    "segmented_neutrophil": "neutrophil",
    "neutrophil_segmented": "neutrophil",
    "neutrophil_band": "band_neutrophil",
    "thrombocyte": "platelet",
    "normoblast": "erythroblast",
    "blast": "myeloblast",
}


class RenderedCellSampler(ImageEstimator):
    """Fill up rare classes with rendered cells that look as if this laboratory had stained them.

    The cells are those of :func:`hemaest.datasets.make_cells`. They are drawn at the scale of the
    training images (measured by the label-free segmenter, or read from cell maps where the images
    have them), and one stain normalizer, fitted on the training images, moves the colors of all
    rendered cells and of their background to those of the fold. It is a sampler: a pipeline runs it
    in ``fit`` and never in ``predict``.

    Parameters
    ----------
    target : float, default=1.0
        Every class is filled up to this share of the largest one.
    names : dict or None, default=None
        For labels that are not the renderer's words: the type, or a list of types, to draw, as in
        ``{"ig": ["promyelocyte", "myelocyte", "metamyelocyte"]}``. Plurals, spaces and capitals
        need no entry.
    normalizer : stain normalizer or None, default=None
        Cloned; None: :class:`~hemaest.stain.ReinhardNormalizer`.
    random_state : int, RandomState or None
        Seed.
    n_jobs : int, optional
        Threads.

    Attributes
    ----------
    sample_indices_ : int array
        The row that each image is; -1 for rendered ones.
    field_ : float or None
        Width of a rendered image in micrometers; None where no class lacked images.
    normalizer_ : stain normalizer or None
        Moves rendered colors to those of the fold.

    Examples
    --------
    >>> from hemaest.balance import RenderedCellSampler
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(12, classes=["neutrophil", "lymphocyte"], image_size=48,
    ...                    class_weights=[5, 1], random_state=0)
    >>> sampler = RenderedCellSampler(random_state=0)
    >>> X, y = sampler.fit_resample(cells.images, cells.target)
    >>> X.shape, (y == "lymphocyte").sum(), sampler.sample_indices_[-2:]
    ((20, 48, 48, 3), np.int64(10), array([-1, -1]))
    """

    _stateless = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "target": [Interval(Real, 0, 1, closed="right")],
        "names": [dict, None],
        "normalizer": [HasMethods(["fit", "transform", "to_dict"]), None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        target: float = 1.0,
        names: Mapping[Any, str | Sequence[str]] | None = None,
        normalizer: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.target = target
        self.names = names
        self.normalizer = normalizer
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit_resample(self, X: Any, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the images followed by the rendered ones, and their labels.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; the rendered cells of images with
            cell maps have theirs.
        y : array-like of shape (n,)
            Labels.

        Returns
        -------
        images : uint8 array or 1-D object array
        y : array
        """
        self._validate_params()
        X = self._check_images(X)
        y = check_labels(y, len(X), self)
        classes, counts = np.unique(y, return_counts=True)
        lacking = deficits(counts, self.target)
        wanted = np.flatnonzero(lacking)
        self.field_: float | None = None
        self.normalizer_ = None
        made: list[NDArray[np.uint8]] = []
        if len(wanted):
            for label in classes[wanted]:
                self.check_drawable(label)  # refused before any work is done
            seed = seed_of(self.random_state)
            self._match(X, y, seed)
            for code in wanted.tolist():
                made.extend(self._draw(int(lacking[code]), classes[code], [seed, code]))
        self.sample_indices_ = np.concatenate(
            [np.arange(len(X)), np.full(len(made), SYNTHETIC)]
        ).astype(np.intp)
        labels = np.concatenate([y, np.repeat(classes, lacking)]) if made else y
        return pack([*X, *made], dense=X.dtype != object), labels

    def match(self, X: Any, y: ArrayLike) -> Self:
        """Measure the scale and the stain of images, so that :meth:`draw` draws cells like them.

        :meth:`fit_resample` does this itself.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels.

        Returns
        -------
        self : object
        """
        self._validate_params()
        X = self._check_images(X)
        y = check_labels(y, len(X), self)
        self._match(X, y, seed_of(self.random_state))
        return self

    def draw(self, n: int, label: Any, *, random_state: Any = None) -> NDArray[Any]:
        """Return rendered cells of one class, in the scale and the colors that were matched.

        Parameters
        ----------
        n : int
            How many.
        label : label
            A class that the renderer can draw.
        random_state : int, RandomState or None
            The sampler's own where None.

        Returns
        -------
        images : uint8 array of shape (n, height, width, 3)
            With a cell map as fourth channel where the matched images have one.
        """
        if getattr(self, "field_", None) is None:
            raise NotFittedError("nothing was matched yet; call match(X, y) first.")
        seed = seed_of(self.random_state if random_state is None else random_state)
        return np.stack(self._draw(n, label, [seed]))

    def check_drawable(self, label: Any) -> list[str]:
        """Return the types of the renderer for a label, or refuse it."""
        known = list_cell_types()
        given = (self.names or {}).get(label)
        wanted = [given] if isinstance(given, str) else list(given or [])
        if not wanted:
            wanted = [_word(str(label), known)]
        for name in wanted:
            if name not in known:
                raise ValueError(
                    f"the renderer cannot draw {name!r}, for the class {str(label)!r}."
                    f"{did_you_mean(name, known)} It draws {', '.join(known)}. Give names="
                    f"{{{str(label)!r}: <one of these, or a list>}}, or balance this class "
                    "otherwise."
                )
        return wanted

    def drawable(self, label: Any) -> list[str]:
        """Return the types of the renderer that stand for a label; none where it draws none."""
        try:
            return self.check_drawable(label)
        except ValueError:
            return []

    def _match(self, X: NDArray[Any], y: NDArray[Any], seed: int) -> None:
        """Measure the scale and the stain of the fold against rendered cells of the same types."""
        classes, codes = np.unique(y, return_inverse=True)
        shape = self._shape = _shape(X)
        self._mapped = as_array(X[0]).shape[-1] == 4
        self.normalizer_ = None
        types = [self.drawable(label) for label in classes]
        rows = np.flatnonzero([bool(types[code]) for code in codes])
        rng = np.random.default_rng([seed, N_PROBES])
        chosen = np.sort(rng.permutation(rows)[:N_PROBES])
        images = [as_array(X[i]) for i in chosen]
        shares: dict[str, float] = {}
        for code in codes[chosen].tolist():
            for name in types[code]:
                shares[name] = shares.get(name, 0.0) + 1 / len(types[code])
        probe = self._render(len(chosen), shares, shape, PROBE_FIELD, seed)
        own, drawn = self._widths(images), _map_widths(probe.masks)
        width = PROBE_FIELD
        if len(own) and len(drawn):
            ratio = float(np.median(drawn) / np.median(own))
            width = float(np.clip(PROBE_FIELD * ratio, SMALLEST_FIELD, LARGEST_FIELD))
        else:
            warnings.warn(
                "no cell was found in the training images, so their scale is unknown: rendered "
                f"images show {PROBE_FIELD:g} micrometers.",
                stacklevel=4,
            )
        self.field_ = width
        probe = self._render(len(chosen), shares, shape, width, seed)
        base = ReinhardNormalizer() if self.normalizer is None else self.normalizer
        base = clone(base).set_params(n_jobs=self.n_jobs, aggregate="concat")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a fold without contrast: colors stay
            target = base.fit(pack([rgb(image) for image in images], dense=False)).target_
            if target is not None:
                moved = clone(base).set_params(target=target, source="fitted")
                self.normalizer_ = moved.fit(probe.images)

    def _widths(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return how wide the cells are, as parts of the images' sides."""
        if images[0].shape[-1] == 4:
            return _map_widths([image[..., 3] for image in images])
        segmenter = CellSegmenter(n_jobs=self.n_jobs)
        return _map_widths(segmenter.fit(images).predict(images))

    def _render(
        self, n: int, shares: Mapping[str, float], shape: tuple[int, int], field: float, seed: int
    ) -> Any:
        side = max(*shape, 8)
        return make_cells(
            n,
            classes=list(shares),
            class_weights=dict(shares),
            image_size=side,
            field=field * side / min(shape),
            n_patients=max(10, n // 4),
            n_jobs=self.n_jobs,
            random_state=seed,
        )

    def _draw(self, n: int, label: Any, seed: list[int]) -> list[NDArray[np.uint8]]:
        """Return n cells of a class, in the colors of the fold."""
        assert self.field_ is not None
        types, shape = self.check_drawable(label), self._shape
        seed_here = int(np.random.default_rng(seed).integers(2**31))
        cells = self._render(n, dict.fromkeys(types, 1.0), shape, self.field_, seed_here)
        images = cells.images
        if self.normalizer_ is not None:
            images = self.normalizer_.transform(images)
        if self._mapped:
            images = np.concatenate([images, cells.masks[..., None]], axis=-1)
        top, left = ((images.shape[1 + k] - shape[k]) // 2 for k in range(2))
        cut = images[:, top : top + shape[0], left : left + shape[1]]
        return list(np.ascontiguousarray(cut))


def _word(label: str, known: Sequence[str]) -> str:
    """Return a label in the renderer's spelling.

    Examples
    --------
    >>> _word("Band Neutrophils", ["band_neutrophil"])
    'band_neutrophil'
    """
    word = label.strip().lower().replace(" ", "_").replace("-", "_")
    for name in (word, word.removesuffix("s")):
        found = ALIASES.get(name, name)
        if found in known:
            return found
    return word


def _shape(X: NDArray[Any]) -> tuple[int, int]:
    """Return height and width of rendered images: the median of the fold's."""
    if X.dtype != object:
        return int(X.shape[1]), int(X.shape[2])
    sides = [as_array(image).shape[:2] for image in X[:: max(1, len(X) // N_PROBES)]]
    height, width = np.median(sides, axis=0).astype(int)
    return int(height), int(width)


def _map_widths(maps: Any) -> NDArray[np.float64]:
    """Return the diameter of each map's largest cell, as a part of the shorter side."""
    found = []
    for cell_map in maps:
        sizes = np.bincount(cellmap.cells(cell_map).ravel())[1:]
        if sizes.any():
            found.append(np.sqrt(4 * sizes.max() / np.pi) / min(cell_map.shape))
    return np.array(found)
