"""What all normalizers share: a target learned from many images, and one operator an image.

``normalize_together`` applies one operator to all tiles of a slide.
"""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.utils.validation import check_is_fitted

from hemaest._frame import find_frame
from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, StrOptions, checked_fit
from hemaest.images import as_array, iter_arrays, pack, to_object_array
from hemaest.stain._pixels import Mask, Pixels, call_mask, new_like, room_for, select

Statistics = dict[str, NDArray[np.float64]]

# of the docstrings of all normalizers
SHARED_DOCS = {
    "source": """
        source : {"image", "fitted"}, default="image"
            Whether each image is measured by itself, or the images of ``fit`` are measured as one
            and every image gets that one correction; then give a ``target``.
        aggregate : {"mean", "concat", "medoid"}, default="mean"
            How many images become one target: the mean of their statistics, the statistics of
            their pooled pixels, or the one image that is nearest to all others.
        """,
    "mask": """
            Which pixels count: those of a mean optical density of at least 0.15, of a lightness of
            at most 80, those where ``mask(rgb)`` is True, or all.
        """,
    "background": """
        preserve_background : bool, default=True
            With a mask, whether the background stays as it is, with a smooth passage.
        """,
    "n_jobs": """
        n_jobs : int, optional
            Threads.
        """,
    "source_": """
        source_ : dict or None
            The same of the source, with ``source="fitted"``.
        """,
}

# where the products of 3 values are in what a kernel returns: count, sums, products
PRODUCTS = np.array([[4, 5, 6], [5, 7, 8], [6, 8, 9]])


def moments(sums: NDArray[Any]) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Return count, mean and covariance of count, sums and products."""
    n = int(sums[0])
    if n == 0:
        return 0, np.zeros(3), np.zeros((3, 3))
    mean = sums[1:4] / n
    return n, mean, sums[PRODUCTS] / n - mean[:, None] * mean


def pooled(counts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the sum of what each image counts, which need not fit 32 bits."""
    if len(counts) == 1:
        return counts[0]
    wide = np.int64 if counts[0].dtype.kind == "i" else np.float64
    return np.asarray(np.sum(counts, axis=0, dtype=wide))


class StainNormalizer(ImageTransformer):
    """Template of a normalizer.

    A leaf names its statistics in ``_shapes`` and writes ``_measure(pixels)``, which describes a
    pool of pixels by them and says whether they could be found; ``_complete``, which fills in what
    could not be found; and ``_paint``, which moves an image from one description to another.
    """

    _min_pixels = 1
    _shapes: ClassVar[dict[str, tuple[int, ...]]]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "target": [dict, None],
        "source": [StrOptions({"image", "fitted"})],
        "aggregate": [StrOptions({"mean", "concat", "medoid"})],
        "mask": [StrOptions({"od", "luminosity"}), callable, None],
        "preserve_background": ["boolean"],
        "on_degenerate": [StrOptions({"passthrough", "target", "raise"})],
        "n_jobs": [Integral, None],
    }

    target: dict[str, Any] | None
    source: Literal["image", "fitted"]
    aggregate: Literal["mean", "concat", "medoid"]
    mask: Mask
    preserve_background: bool
    on_degenerate: Literal["passthrough", "target", "raise"]
    n_jobs: int | None

    @abstractmethod
    def _measure(self, pixels: Sequence[Pixels]) -> tuple[Statistics, bool]:
        """Return the statistics of a pool of pixels, and whether it is degenerate."""

    @abstractmethod
    def _complete(self, statistics: Statistics, pixels: Sequence[Pixels]) -> Statistics:
        """Return statistics in which the target stands in for what the pixels do not determine."""

    @abstractmethod
    def _paint(
        self,
        image: NDArray[np.uint8],
        source: Statistics,
        target: Statistics,
        out: NDArray[np.uint8],
    ) -> None:
        """Write the image, moved from the source's statistics to the target's."""

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the target from images (with ``source="fitted"``, the source as well).

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them. Degenerate images are left out.
        y : ignored
            For pipelines.

        Returns
        -------
        self : object
        """
        X = self._check_images(X)
        target = None if self.target is None else self._read(self.target)
        source: Statistics | None = None
        if target is None or self.source == "fitted":
            target, source = self._learn(X, target)
        self.target_, self.source_ = target, source
        return self

    def _learn(
        self, X: NDArray[Any], target: Statistics | None
    ) -> tuple[Statistics | None, Statistics | None]:
        """Return target and source; neither where no image has enough stain."""
        measured = map_images(self._describe, X, n_jobs=self.n_jobs)
        good = [i for i, (_, degenerate) in enumerate(measured) if not degenerate]
        if not good:
            self._complain(list(range(len(X))), "learn from", stacklevel=5)
            return None, None
        pool, source = self.aggregate == "concat" and target is None, None
        if pool or self.source == "fitted":
            source, _ = self._measure([self._select(as_array(X[i])) for i in good])
        if target is None:
            target = source if pool else self._aggregate([measured[i][0] for i in good])
        return target, source if self.source == "fitted" else None

    def _aggregate(self, statistics: list[Statistics]) -> Statistics:
        if self.aggregate == "medoid":
            return statistics[medoid(statistics)]
        return self._mean({k: np.stack([s[k] for s in statistics]) for k in self._shapes})

    def _mean(self, stacked: Statistics) -> Statistics:
        return {name: values.mean(axis=0) for name, values in stacked.items()}

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the images in the target's colors.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; a cell map is copied.

        Returns
        -------
        images : uint8 array (n, H, W, C) or 1-D object array
        """
        check_is_fitted(self)
        X = self._check_images(X)
        whole, places = room_for(X)
        results = map_images(self._normalize, X, places, n_jobs=self.n_jobs)
        self._complain([i for i, (_, degenerate) in enumerate(results) if degenerate], "normalize")
        return whole if X.dtype != object else to_object_array([image for image, _ in results])

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._normalize(image)[0]

    def _normalize(
        self, image: NDArray[np.uint8], out: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.uint8], bool]:
        result = new_like(image, out)
        if self.target_ is None:
            result[...] = image
            return result, False
        if self.source_ is not None:
            return self._move(image, self.source_, result), False
        pixels = [self._select(image)]
        statistics, degenerate = self._measure(pixels)
        if degenerate:
            if self.on_degenerate != "target":
                result[...] = image
                return result, True
            statistics = self._complete(statistics, pixels)
        return self._move(image, statistics, result), degenerate

    def _move(
        self,
        image: NDArray[np.uint8],
        source: Statistics,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        assert self.target_ is not None
        result = new_like(image, out)
        self._paint(image, source, self.target_, result)
        if callable(self.mask) and self.preserve_background:
            background = ~call_mask(self.mask, image)
            result[background] = image[background]
        frame = find_frame(image)
        if frame is not None:
            result[frame] = image[frame]
        return result

    def _select(self, image: NDArray[np.uint8]) -> Pixels:
        return select(image, self.mask)

    def _describe(self, image: NDArray[np.uint8]) -> tuple[Statistics, bool]:
        return self._measure([self._select(image)])

    def _complain(self, which: list[int], task: str, stacklevel: int = 3) -> None:
        """Warn about degenerate images, counted, or raise."""
        if not which:
            return
        shown = ", ".join(map(str, which[:10])) + (", ..." if len(which) > 10 else "")
        found = (
            f"{type(self).__name__}: {len(which)} image(s) have too little stain or contrast to "
            f"{task} (number {shown})"
        )
        if self.on_degenerate == "raise":
            raise ValueError(
                f"{found}. Leave them out (is_degenerate(X) finds them), or set "
                'on_degenerate="passthrough".'
            )
        if task == "learn from":
            effect = "; nothing was learned, and transform will pass every image unchanged."
        elif self.on_degenerate == "target":
            effect = "; what they do not determine was taken from the target."
        else:
            effect = "; they pass unchanged."
        warnings.warn(found + effect, UserWarning, stacklevel=stacklevel)

    def is_degenerate(self, X: Any) -> NDArray[np.bool_]:
        """Say for each image whether it has too little stain or contrast to be normalized.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        degenerate : bool array of shape (n,)
        """
        self._validate_params()
        X = self._check_images(X)
        measured = map_images(self._describe, X, n_jobs=self.n_jobs)
        return np.array([degenerate for _, degenerate in measured], dtype=bool)

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted normalizer as a dict that JSON can hold: a few dozen numbers.

        Returns
        -------
        state : dict
            For :meth:`from_dict`; its ``"target"`` also serves as the parameter ``target``.
        """
        check_is_fitted(self)
        if callable(self.mask):
            raise TypeError(
                f"mask is the function {self.mask!r}, which JSON cannot hold; use pickle, or a "
                'named mask ("od", "luminosity").'
            )
        params = {k: _plain(v) for k, v in self.get_params(deep=False).items() if k != "target"}
        return {
            "class": type(self).__name__,
            "params": params,
            "target": _plain(self.target_),
            "source": _plain(self.source_),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the fitted normalizer that :meth:`to_dict` described.

        Parameters
        ----------
        state : dict
            As :meth:`to_dict` made it.

        Returns
        -------
        normalizer : object
        """
        if state.get("class") != cls.__name__:
            raise ValueError(
                f"This is the state of a {state.get('class')!r}, not a {cls.__name__}."
            )
        normalizer = cls(**state["params"])
        for name in ("target", "source"):
            found = state.get(name)
            setattr(normalizer, f"{name}_", None if found is None else normalizer._read(found))
        return normalizer

    def _check_loaded(self) -> None:
        super()._check_loaded()
        for name in ("target_", "source_"):
            found = getattr(self, name, None)
            if found is not None:
                setattr(self, name, self._read(found))

    def _read(self, numbers: dict[str, Any]) -> Statistics:
        """Check numbers from outside."""
        if set(numbers) != set(self._shapes):
            raise ValueError(
                f"A target of {type(self).__name__} has the keys {sorted(self._shapes)}, as "
                f'to_dict()["target"] gives them; got {sorted(map(str, numbers))}.'
            )
        statistics = {k: np.array(numbers[k], dtype=np.float64) for k in self._shapes}
        for name, shape in self._shapes.items():
            values = statistics[name]
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"target[{name!r}] must be finite numbers of shape {shape}.")
        return statistics


def normalize_together(images: Any, normalizer: StainNormalizer) -> NDArray[Any]:
    """Normalize the tiles or fields of one slide by one set of statistics.

    A tile that holds one nucleus and a tile that holds ten have different statistics, though one
    slide was stained once. Here their pixels are pooled, so that equal colors stay equal from
    tile to tile. The result of one image depends on the others, so this is a function and no
    step of a pipeline.

    Parameters
    ----------
    images : images
        As :func:`hemaest.images.check_images` takes them: all from one slide.
    normalizer : ReinhardNormalizer, MacenkoNormalizer or VahadaneNormalizer
        Fitted; it is not changed.

    Returns
    -------
    images : uint8 array (n, H, W, C) or 1-D object array

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.stain import ReinhardNormalizer
    >>> rng = np.random.default_rng(0)
    >>> slide = rng.integers(90, 250, (4, 16, 16, 3)).astype(np.uint8)
    >>> normalizer = ReinhardNormalizer().fit(slide[:1])
    >>> normalize_together(slide, normalizer).shape
    (4, 16, 16, 3)
    """
    if not isinstance(normalizer, StainNormalizer):
        raise TypeError(
            f"normalizer is {type(normalizer).__name__}; it must be a fitted ReinhardNormalizer, "
            "MacenkoNormalizer or VahadaneNormalizer."
        )
    check_is_fitted(normalizer)
    X = normalizer._check_images(images)
    if normalizer.target_ is None:
        return pack([image.copy() for image in iter_arrays(X)], dense=X.dtype != object)
    pixels = map_images(normalizer._select, X, n_jobs=normalizer.n_jobs)
    source, degenerate = normalizer._measure(pixels)
    if degenerate:
        normalizer._complain(list(range(len(X))), "normalize")
        if normalizer.on_degenerate != "target":
            return pack([image.copy() for image in iter_arrays(X)], dense=X.dtype != object)
        source = normalizer._complete(source, pixels)
    moved = map_images(lambda image: normalizer._move(image, source), X, n_jobs=normalizer.n_jobs)
    return pack(moved, dense=X.dtype != object)


def medoid(statistics: list[Statistics]) -> int:
    """Return which statistics are nearest to all others, each number on its own scale."""
    table = np.stack([np.concatenate([v.ravel() for v in s.values()]) for s in statistics])
    table = table / np.maximum(table.std(axis=0), 1e-9)
    # row by row: all pairs of a whole data set do not fit into memory
    return int(np.argmin([cdist(row[None], table).sum() for row in table]))


def _plain(value: Any) -> Any:
    """Return a value with arrays and NumPy's numbers as lists and Python's."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
