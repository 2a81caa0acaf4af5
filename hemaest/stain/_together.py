"""Tiles of one slide share one set of statistics."""

from typing import Any

from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest._parallel import map_images
from hemaest.images import iter_arrays, pack
from hemaest.stain._normalizer import StainNormalizer


def normalize_together(images: Any, normalizer: StainNormalizer) -> NDArray[Any]:
    """Normalize the tiles or fields of one slide by one set of statistics.

    A tile that holds one nucleus and a tile that holds ten have different statistics, though one
    slide was stained once. Here their pixels are pooled, so that equal colours stay equal from
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
