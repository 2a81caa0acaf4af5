"""The shipped classifier of cells: a small network that saw rendered blood alone.

:func:`hemaest.pretrained.load_pretrained` returns it. The network looks twice: at the whole crop,
where it outlines the cell in the middle, and at that cell alone, however loosely it was cut and
with its nucleus brought to one color, whatever the stain. Each look is the mean of four: no side
of a film is up.
"""

import copy
from collections.abc import Sequence
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from hemaest import nets
from hemaest._frame import border_color
from hemaest._parallel import map_items
from hemaest.base import ImageEstimator, Interval, NamesTheLikeliest, checked_fit
from hemaest.images import as_array
from hemaest.nets.cards import read_card, shipped_weights

if TYPE_CHECKING:
    from torch import Tensor

    View = tuple[Tensor, Tensor]  # images, and how wide they are in micrometers

__all__ = ["BloodCellClassifier", "Glance"]

SIZE = 96  # pixels: what the network was trained with
TURNS = 4
# weight of the statistics of one microscope's cells, in a copy adapted to it: with very many
# cells, and the number of cells with which it is half of that
NORM_SHARE, NORM_CELLS = 0.6, 40
MARGIN = 1.3  # of the second look: width over the extent of the cell


class Glance(NamedTuple):
    """What the network says of images; all arrays have one row an image."""

    logits: NDArray[np.float64]
    embedding: NDArray[np.float64]
    box: NDArray[np.float64]
    familiar: NDArray[np.float64]
    traits: NDArray[np.float64]


class BloodCellClassifier(
    NamesTheLikeliest,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ImageEstimator,
):
    """Name the type of the cell in the middle of each crop; no training images are needed.

    Parameters
    ----------
    um_per_pixel : float, optional
        The scale of the images, in micrometers a pixel. By default it is read from each image: red
        cells and leukocytes show it, but a crop that a platelet fills does not.
    batch_size : int, default=32
        Images at a time.
    n_jobs : int, optional
        Threads over batches; the result does not depend on them.

    Attributes
    ----------
    classes_ : array of str
        Names of :meth:`hemaest.clinical.CellTaxonomy.blood`.
    module_ : torch.nn.Module
        The network.

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> from hemaest.pretrained import load_pretrained
    >>> cells = make_cells(2, classes=["eosinophil"], random_state=0)
    >>> load_pretrained("blood-cells").predict(cells.images).tolist()  # doctest: +SKIP
    ['eosinophil', 'eosinophil']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "um_per_pixel": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        um_per_pixel: float | None = None,
        batch_size: int = 32,
        n_jobs: int | None = None,
    ) -> None:
        self.um_per_pixel = um_per_pixel
        self.batch_size = batch_size
        self.n_jobs = n_jobs

    @checked_fit
    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Load the network; nothing is learned from images or labels.

        Parameters
        ----------
        X, y : ignored
            For pipelines.

        Returns
        -------
        self : object
        """
        from safetensors.numpy import load_file

        card = read_card("blood-cells")
        self._order = np.argsort(card.classes)
        self.classes_ = np.array(card.classes)[self._order]
        self._calibration = dict(card.calibration)
        self._build(load_file(shipped_weights("blood-cells")), card.settings)
        return self

    def _build(self, weights: dict[str, NDArray[Any]], settings: dict[str, Any]) -> None:
        """Build the network around its weights, which are float16 in the file."""
        self.module_ = nets.cellnet.net_of(nets.weights.to_tensors(weights), settings)
        self._folded = nets.weights.fold_norms(self.module_)
        self._structure = {name: list(settings[name]) for name in ("channels", "depths")}
        self._n_features_out = 2 * self.module_.classify.in_features

    def __getstate__(self) -> dict[str, Any]:
        """Carry the weights as plain arrays, so that a file loads on any machine."""
        state = dict(super().__getstate__())
        module = state.pop("module_", None)
        state.pop("_folded", None)
        if module is not None:
            state["_weights"] = {
                name: value.numpy().astype(np.float16)
                for name, value in module.state_dict().items()
                if not name.endswith("num_batches_tracked")
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the network again around the weights."""
        state = dict(state)
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is not None:
            self._build(weights, self._structure)

    def predict_proba(self, X: Any, *, um_per_pixel: float | None = None) -> NDArray[np.float64]:
        """Return the probability of each type, calibrated on rendered cells.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them: crops of any size and framing.
        um_per_pixel : float, optional
            The scale of these images, where it is known and the parameter does not say it.

        Returns
        -------
        probabilities : float array of shape (n, n_classes)
        """
        return self._odds(*self.look(X, um_per_pixel=um_per_pixel))

    def assess(self, X: Any, *, um_per_pixel: float | None = None) -> Bunch:
        """Name cells and say how familiar they are, which takes no longer than to name them.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        um_per_pixel : float, optional
            The scale of these images, where it is known and the parameter does not say it.

        Returns
        -------
        seen : Bunch
            ``labels``, ``probabilities`` and ``familiar``: what :meth:`predict`,
            :meth:`predict_proba` and :meth:`score_samples` return.

        Examples
        --------
        >>> from hemaest.datasets import make_cells
        >>> from hemaest.pretrained import load_pretrained
        >>> cells = make_cells(3, random_state=0)
        >>> seen = load_pretrained("blood-cells").assess(cells.images)
        >>> len(seen.labels), seen.probabilities.shape, seen.familiar.shape
        (3, (3, 16), (3,))
        """
        first, second = self.look(X, um_per_pixel=um_per_pixel)
        odds = self._odds(first, second)
        familiar = first.familiar - self._least_familiar
        return Bunch(labels=self.labels_of(odds), probabilities=odds, familiar=familiar)

    @property
    def _least_familiar(self) -> float:
        return float(self._calibration.get("familiar", 0.0))

    def _odds(self, first: Glance, second: Glance) -> NDArray[np.float64]:
        share = self._calibration["second_look"]
        logits = (1 - share) * first.logits + share * second.logits
        logits = logits[:, self._order] / self._calibration["temperature"]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the embedding of each crop: what both looks see, side by side.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        embedding : float array of shape (n, n_features)
        """
        first, second = self.look(X)
        return np.hstack([first.embedding, second.embedding])

    embed = transform

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return how familiar each crop is: the log-odds of a stained film, above a threshold.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        scores : float array of shape (n,)
            Below 0 the crop is less familiar than 99 of 100 rendered crops.
        """
        check_is_fitted(self, "module_")
        parts = map_items(self._familiar, self._batches(self._check_images(X)), n_jobs=self.n_jobs)
        return np.concatenate(list(parts)) - self._least_familiar

    def to_onnx(self, path: str | Path) -> Path:
        """Write the network to an ONNX file, compared with onnxruntime.

        Parameters
        ----------
        path : str or path
            Ends in ``.onnx``.

        Returns
        -------
        path : Path
            Inputs ``image``: (n, 3, 96, 96), RGB from 0 to 1, and ``width``: (n,), how wide each
            of them is in micrometers, 0 where that is not known. Outputs ``logits`` in the order
            of ``classes_``, ``embedding``, ``outline``, ``traits`` and ``familiar``.
        """
        check_is_fitted(self, "module_")
        import torch

        names = ("logits", "embedding", "outline", "traits", "familiar")
        order = torch.from_numpy(self._order)
        return nets.onnx.write_onnx(self.module_.flat(order), SIZE, path, names, ("width",))

    def look(self, X: Any, *, um_per_pixel: float | None = None) -> tuple[Glance, Glance]:
        """Return what the network sees in the whole crop, and in the cell cut out of it.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        um_per_pixel : float, optional
            The scale of these images, where it is known and the parameter does not say it.

        Returns
        -------
        first, second : Glance
        """
        check_is_fitted(self, "module_")
        look = partial(self._look, um_per_pixel=um_per_pixel)
        pairs = map_items(look, self._batches(self._check_images(X)), n_jobs=self.n_jobs)
        first, second = zip(*pairs, strict=True)
        return _joined(first), _joined(second)

    def adapt_batchnorm(self, X: Any) -> Self:
        """Return a copy for one microscope: cells that it photographed, without labels.

        A stain and a camera move the mean and spread of what the network sees. The copy goes a
        part of the way from those of rendered cells to those of these images: 0.12 with 10 cells,
        0.48 with 160. They should be as they come, not all of one type. Four of five laboratories
        gained, one lost: look at what it names before you rely on it.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; up to some hundreds.

        Returns
        -------
        adapted : BloodCellClassifier

        Examples
        --------
        >>> from hemaest.datasets import make_cells
        >>> from hemaest.pretrained import load_pretrained
        >>> cells = make_cells(12, random_state=0)
        >>> own = load_pretrained("blood-cells").adapt_batchnorm(cells.images)
        >>> own.predict(cells.images).shape
        (12,)
        """
        check_is_fitted(self, "module_")
        X = self._check_images(X)
        squares = [view for batch in self._batches(X) for view in self._views(batch)[:2]]
        adapted = copy.deepcopy(self)
        norms = nets.weights.batch_norms(adapted.module_)
        before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        nets.weights.measure_batch_norms(adapted.module_, squares)
        kept = 1 - NORM_SHARE * len(X) / (len(X) + NORM_CELLS)
        for norm, (mean, spread) in zip(norms, before, strict=True):
            norm.running_mean.lerp_(mean, kept)
            norm.running_var.lerp_(spread, kept)
        adapted._folded = nets.weights.fold_norms(adapted.module_)
        return adapted

    def squares(self, X: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the two images that the network looks at: the whole crop, and the recolored cell.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        whole, closer : uint8 arrays of shape (n, 96, 96, 3)
        """
        check_is_fitted(self, "module_")
        parts = [self._views(batch)[:2] for batch in self._batches(self._check_images(X))]
        whole, closer = ([view[0] for view in views] for views in zip(*parts, strict=True))
        return _pixels(whole), _pixels(closer)

    def _batches(self, X: NDArray[Any]) -> list[NDArray[Any]]:
        # of even size: each counts as one where statistics are measured
        return np.array_split(X, -(-len(X) // self.batch_size))

    def _look(
        self, items: NDArray[Any], um_per_pixel: float | None = None
    ) -> tuple[Glance, Glance]:
        _, closer, first = self._views(items, um_per_pixel)
        return first, self._glance(*closer)

    def _familiar(self, items: NDArray[Any]) -> NDArray[np.float64]:
        return self._glance(*self._whole([as_array(item)[..., :3] for item in items])).familiar

    def _views(
        self, items: NDArray[Any], um_per_pixel: float | None = None
    ) -> "tuple[View, View, Glance]":
        """Return images whole and closer, and what is seen in the whole ones."""
        images = [as_array(item)[..., :3] for item in items]
        whole = self._whole(images, um_per_pixel)
        first = self._glance(*whole)
        closer = _stacked([letterbox(*p) for p in zip(images, first.box, strict=True)])
        extent = first.box[:, 2:] - first.box[:, :2]
        widths = whole[1] * closer.new_tensor(extent.max(axis=1))
        return whole, (self._recolored(closer, widths), widths), first

    def _whole(self, images: list[NDArray[np.uint8]], um_per_pixel: float | None = None) -> "View":
        """Return whole images and how wide they are."""
        squares = [letterbox(image, None) for image in images]
        x = _stacked(squares)
        um = um_per_pixel if self.um_per_pixel is None else self.um_per_pixel
        if um is None:
            return x, x.new_tensor([nets.fieldnet.seen_width(square) for square in squares])
        return x, x.new_tensor([um * max(image.shape[:2]) for image in images])

    def _recolored(self, x: "Tensor", widths: "Tensor") -> "Tensor":
        import torch

        with torch.inference_mode():
            outline = self._folded(x.contiguous(memory_format=torch.channels_last), widths).outline
            return nets.cellnet.recolor(x, outline.softmax(dim=1))

    def _glance(self, x: "Tensor", widths: "Tensor") -> Glance:
        import torch

        with torch.inference_mode():
            # one turn after the other: all at once would need four times the memory
            turned = (x.rot90(k, (2, 3)) for k in range(TURNS))
            seen = [
                self._folded(t.contiguous(memory_format=torch.channels_last), widths)
                for t in turned
            ]
            cell = 1 - seen[0].outline.softmax(dim=1)[:, 0]

        def mean(name: str) -> NDArray[np.float64]:
            return np.mean([getattr(turn, name).double().numpy() for turn in seen], axis=0)

        boxes = np.array([middle_box(one) for one in cell.numpy()])
        return Glance(mean("logits"), mean("embedding"), boxes, mean("familiar"), mean("traits"))


def _stacked(squares: list[NDArray[np.uint8]]) -> "Tensor":
    import torch

    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255


def _pixels(looks: "Sequence[Tensor]") -> NDArray[np.uint8]:
    stacked = np.concatenate([look.numpy() for look in looks]).transpose(0, 2, 3, 1)
    return np.round(255 * stacked).astype(np.uint8)


def _joined(parts: Sequence[Glance]) -> Glance:
    return Glance(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))


def letterbox(image: NDArray[np.uint8], box: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Return what lies in a box of the letterboxed image, as a square of the network's size.

    ``box`` (x0, y0, x1, y1) is in shares of the square around the whole image; None = all of it.
    What lies beyond the image has the median color of its border.
    """
    import cv2

    height, width = image.shape[:2]
    side = max(height, width)
    x0, y0, x1, y1 = (0.0, 0.0, 1.0, 1.0) if box is None else box
    reach = max((x1 - x0) * side, (y1 - y0) * side, 4.0)
    left = (x0 + x1) / 2 * side - (side - width) / 2 - reach / 2
    top = (y0 + y1) / 2 * side - (side - height) / 2 - reach / 2
    a, b = max(round(left), 0), max(round(top), 0)
    c, d = min(round(left + reach), width), min(round(top + reach), height)
    zoom = SIZE / reach
    part = np.ascontiguousarray(image[b : max(d, b + 1), a : max(c, a + 1)])
    w = min(max(round(part.shape[1] * zoom), 1), SIZE)
    h = min(max(round(part.shape[0] * zoom), 1), SIZE)
    part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    if (h, w) == (SIZE, SIZE):
        return part
    square = np.empty((SIZE, SIZE, 3), np.uint8)
    square[:] = border_color(image)
    x = min(max(round((a - left) * zoom), 0), SIZE - w)
    y = min(max(round((b - top) * zoom), 0), SIZE - h)
    square[y : y + h, x : x + w] = part
    return square


def middle_box(cell: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the box, with a margin, of the outlined cell nearest the middle; else of everything.

    Parameters
    ----------
    cell : float array of shape (k, k)
        Probability of each place to belong to the cell.
    """
    from scipy import ndimage

    k = len(cell)
    labels, n = ndimage.label(cell > 0.5)
    if n == 0:
        return np.array([0.0, 0.0, 1.0, 1.0])
    row, column = np.mgrid[:k, :k]
    nearness = np.exp(-((row - k / 2 + 0.5) ** 2 + (column - k / 2 + 0.5) ** 2) / (0.25 * k) ** 2)
    weight = ndimage.sum_labels(cell * nearness, labels, np.arange(1, n + 1))
    rows, columns = ndimage.find_objects(labels)[int(weight.argmax())]
    x, y = (columns.start + columns.stop) / 2 / k, (rows.start + rows.stop) / 2 / k
    reach = max(columns.stop - columns.start, rows.stop - rows.start) / k
    half = min(MARGIN * reach, 1.0) / 2
    return np.array([x - half, y - half, x + half, y + half])
