"""Maps of what a net looks at: drawn on the cell, and counted by its parts."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest.base import did_you_mean
from hemaest.deep._letterbox import placement
from hemaest.images import as_array, cell_map, rgb
from hemaest.inspection._letters import shortened, size_for
from hemaest.inspection._net import reach_net, targets_of

if TYPE_CHECKING:
    import pandas as pd

Heat = NDArray[np.float64]
# inches that an image beside its map takes
PAIR = 3.1


def unbox(heat: Heat, height: int, width: int, size: int) -> Heat:
    """Bring a coarse map of the letterboxed square back to the image, scaled to a maximum of 1.

    Examples
    --------
    >>> unbox(np.eye(2), 10, 20, 8).shape
    (10, 20)
    """
    import cv2

    top, left, inner_height, inner_width = placement(height, width, size)
    square = cv2.resize(heat.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    part = square[top : top + inner_height, left : left + inner_width]
    whole = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR).clip(min=0)
    return np.asarray(whole, dtype=np.float64) / max(float(whole.max()), 1e-12)


def heat_shares(heat: Heat, labels: NDArray[np.uint8]) -> dict[str, float]:
    """Return how much of the heat lies on nucleus, cytoplasm and surround, and their areas.

    Examples
    --------
    >>> heat_shares(np.ones((2, 2)), np.array([[0, 1], [2, 2]], np.uint8))["nucleus"]
    0.5
    """
    parts = {
        "nucleus": cellmap.nuclei(labels),
        "cytoplasm": cellmap.cytoplasm(labels),
        "surround": labels == 0,
    }
    total = max(float(heat.sum()), 1e-12)
    shares = {name: float(heat[mask].sum()) / total for name, mask in parts.items()}
    return shares | {f"{name}_area": float(mask.mean()) for name, mask in parts.items()}


class HeatDisplay:
    """Images, a map of heat for each, and what the net said.

    Parameters
    ----------
    images : list of uint8 arrays
    maps : list of float arrays
        From 0 to 1, of the images' sizes.
    titles : list of str
    """

    # what from_estimator takes besides
    _options: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, images: list[NDArray[np.uint8]], maps: list[Heat], titles: list[str]
    ) -> None:
        self.images = images
        self.maps = maps
        self.titles = titles

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, target: Any = None, **options: Any) -> Self:
        """Compute the maps of some images; nothing is drawn yet.

        Parameters
        ----------
        estimator : fitted deep classifier, or Pipeline that ends in one
            Whose view is asked for.
        X : images
            As the estimator takes them.
        target : label or array of labels, optional
            The class whose evidence is shown; by default the predicted one of each image.
        **options
            For the kind of map; only :class:`GradCAM` has one, ``layer``.

        Returns
        -------
        display : object
        """
        unknown = [name for name in options if name not in cls._options]
        if unknown:
            known = ", ".join(["target", *cls._options])
            raise TypeError(
                f"{cls.__name__}.from_estimator has no option {unknown[0]!r}; it takes {known}."
                f"{did_you_mean(unknown[0], cls._options)}"
            )
        classifier, images = reach_net(estimator, X, cls.__name__)
        wanted = targets_of(classifier, images, target)
        proba = classifier.predict_proba(images)
        maps, shown, titles = [], [], []
        size = classifier.image_size
        for start in range(0, len(images), 32):
            rows = slice(start, start + 32)
            coarse = cls._coarse(classifier, images[rows], wanted[rows], **options)
            for heat, item in zip(coarse, images[rows], strict=True):
                image = as_array(item)
                height, width = image.shape[:2]
                maps.append(unbox(heat, height, width, size))
                shown.append(image)
        for i, place in enumerate(wanted):
            titles.append(f"{classifier.classes_[place]} {proba[i, place]:.2f}")
        return cls(shown, maps, titles)

    @staticmethod
    @abstractmethod
    def _coarse(
        classifier: Any, images: NDArray[Any], wanted: NDArray[np.intp], **options: Any
    ) -> NDArray[np.floating]:
        """Return one coarse map of heat for each image."""

    @property
    def shares_(self) -> "pd.DataFrame":
        """Share of the heat on nucleus, cytoplasm and surround, beside their share of the area.

        A model that looks at the cell has far more of its heat on the cell than the cell has of
        the area.
        """
        import pandas as pd

        labels = [cell_map(image) for image in self.images]
        if any(label is None for label in labels):
            raise ValueError(
                "the images have no cell map; put a hemaest.segmentation.CellSegmenter before the "
                "classifier, or append your own map as a fourth channel."
            )
        rows = [
            heat_shares(heat, label)
            for heat, label in zip(self.maps, labels, strict=True)
            if label is not None
        ]
        return pd.DataFrame(rows)

    def plot(self, n: int = 12, *, columns: int = 4) -> Self:
        """Draw each image beside itself under its map.

        Parameters
        ----------
        n : int, default=12
            How many images at most.
        columns : int, default=4
            Pairs in a row.

        Returns
        -------
        self : object
            With ``figure_``.
        """
        from matplotlib.figure import Figure

        n = min(n, len(self.images))
        columns = min(columns, n)
        rows = -(-n // columns)
        self.figure_ = Figure(figsize=(PAIR * columns, 1.85 * rows), layout="constrained")
        wide = 0.95 * 72 * PAIR
        size = size_for(self.titles[:n], wide, 8.5)
        axes = self.figure_.subplots(rows, columns, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, image, heat, title in zip(
            axes.flat, self.images, self.maps, self.titles, strict=False
        ):
            picture = rgb(image)
            gap = np.full((picture.shape[0], max(1, picture.shape[1] // 25), 3), 255, np.uint8)
            ax.imshow(np.hstack([picture, gap, overlay(picture, heat)]))
            ax.set_title(shortened(title, wide, size), fontsize=size)
        return self


def overlay(image: NDArray[np.uint8], heat: Heat) -> NDArray[np.uint8]:
    """Return the image in grey under colours that grow stronger with the heat.

    Heat that is much the same everywhere points nowhere, and is drawn faint.
    """
    import matplotlib

    heat = heat / max(1.0, 4 * float(heat.mean()))
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    strength = (0.15 + 0.6 * heat)[..., None]
    return (grey * (1 - strength) + colours * strength).round().astype(np.uint8)
