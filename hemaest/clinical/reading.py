"""Classify the images of single cells, or find, outline and classify the cells of whole fields.

Called by ``hemaest predict``. Each image is read by itself: an answer does not depend on which
other files are in the call, unless the caller says that all fields come from one microscope.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from hemaest import cellmap, inspection
from hemaest._frame import border_color
from hemaest._geometry import scale_to
from hemaest._numba import raise_if_interrupted
from hemaest.base import labels_and_probabilities
from hemaest.images import check_images, rgb, to_object_array
from hemaest.segmentation import SmearDetector

__all__ = [
    "FieldReader", "FieldReading", "NamedCell", "assess_cells", "familiar_cells",
    "field_warnings", "found_in_field", "looks_like_field", "name_cells", "scale_of_field",
]  # fmt: skip

Image = NDArray[np.uint8]

# in micrometers, on the longer side; crops are 25 to 40 wide, fields hardly less than 50
WIDEST_CROP = 43.0
# of the shorter side, the least that the leukocyte of a crop takes
SHARE_OF_A_CROP = 0.3
# longer sides of two first looks, in pixels; by how many octaves the scales that they give differ
# at most where both can be believed; the least share of leukocyte or platelet in the middle
GLANCES, AGREE, SEEN = (96, 128), 0.2, 0.2
BOX = ["x0", "y0", "x1", "y1"]


@dataclass(frozen=True, slots=True)
class NamedCell:
    """The label of one cell.

    Parameters
    ----------
    label : str
        Empty where the classifier failed.
    confidence : float or None
        Its probability; None where the classifier gives none.
    error : str
        Why it failed.
    familiar : bool
        Whether it is like the cells that the classifier knows, where that says so.

    Examples
    --------
    >>> from hemaest.clinical import NamedCell
    >>> NamedCell("monocyte", 0.9)
    NamedCell(label='monocyte', confidence=0.9, error='', familiar=True)
    """

    label: str
    confidence: float | None = None
    error: str = ""
    familiar: bool = True


def name_cells(
    classifier: Any, images: Sequence[Image], *, um_per_pixel: float | None = None
) -> list[NamedCell]:
    """Classify images of single cells; one that fails spoils no other.

    Parameters
    ----------
    classifier : fitted classifier
        Its ``predict`` gives the label, which may be a wider type or "unidentified"; the largest
        of its ``predict_proba``, where it has that, the confidence.
    images : sequence of images
        Of any sizes.
    um_per_pixel : float, optional
        The scale of the images, for a classifier with a parameter of that name.

    Returns
    -------
    cells : list of NamedCell

    Examples
    --------
    >>> from hemaest.recipes import make_recipe
    >>> X = np.stack([np.full((8, 8, 3), v, np.uint8) for v in (20, 30, 220, 230)])
    >>> model = make_recipe("color-knn").set_params(classify__n_neighbors=1)
    >>> model = model.fit(X, ["dark", "dark", "light", "light"])
    >>> name_cells(model, [X[0]])
    [NamedCell(label='dark', confidence=1.0, error='', familiar=True)]
    """
    if not len(images):
        return []
    X = to_object_array(list(images))
    try:
        labels, probabilities, familiar = assess_cells(classifier, X, um_per_pixel=um_per_pixel)
        best = [None] * len(X) if probabilities is None else probabilities.max(axis=1).tolist()
        rows = zip(labels, best, familiar, strict=True)
        return [NamedCell(str(label), p, familiar=bool(known)) for label, p, known in rows]
    except Exception as error:  # whatever a step raises, the other images are read
        raise_if_interrupted(error)
        if len(images) == 1:
            return [NamedCell("", None, f"{type(error).__name__}: {error}")]
    return [name_cells(classifier, [one], um_per_pixel=um_per_pixel)[0] for one in images]


def looks_like_field(image: Image, detector: SmearDetector | None = None) -> bool:
    """Return whether an image shows a field of a smear rather than one cell.

    A crop is no wider than a few cells, or a leukocyte fills a good part of its middle.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        The image.
    detector : fitted SmearDetector, optional
        By default the default one.

    Returns
    -------
    is_field : bool

    Examples
    --------
    >>> from hemaest.datasets import make_cells, make_smear
    >>> field = make_smear(420, n_cells=3, random_state=0).image
    >>> cell = make_cells(1, classes=["monocyte"], random_state=0).images[0]
    >>> looks_like_field(field), looks_like_field(cell)
    (True, False)
    """
    return found_in_field(image, detector or default_detector()) is not None


def found_in_field(image: Image, detector: Any) -> Bunch | None:
    """Return what a detector finds in a field; None where the image shows one cell.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        The image.
    detector : fitted detector
        Such as :class:`~hemaest.segmentation.SmearDetector`.

    Returns
    -------
    found : Bunch or None
        As ``detector.detect_cells(..., quality=True)`` returns it.

    Examples
    --------
    >>> from hemaest.datasets import make_smear
    >>> field = make_smear(420, n_cells=3, random_state=0).image
    >>> len(found_in_field(field, default_detector()).images)
    3
    """
    if _is_cell_at_a_glance(image):
        return None
    found = _found(image, detector)
    boxes = found.table[BOX].to_numpy(dtype=float)
    if len(boxes) and _fills_the_middle(boxes, image.shape[:2]):
        return None
    wide = max(image.shape[:2]) * float(found.quality["um_per_pixel"].iloc[0])
    return found if wide > WIDEST_CROP else None


def _found(image: Image, detector: Any) -> Bunch:
    """Return cells of a field, and what speaks against it where a detector can say so."""
    options = {"quality": True} if hasattr(detector, "quality") else {}
    return detector.detect_cells(to_object_array([image]), **options)


def _is_cell_at_a_glance(image: Image) -> bool:
    """Return whether two looks at a small image agree that it is a narrow one about a cell.

    Most crops are known so, in a tenth of the time that it takes to find the cells of a field.
    """
    from hemaest.nets.fieldnet import CLASSES, look_at_field, shipped_field_net

    net, longest = shipped_field_net(), max(image.shape[:2])
    widths = []
    for side in GLANCES:
        high, wide = (max(8, round(n * side / longest)) for n in image.shape[:2])
        maps = look_at_field(net, scale_to(rgb(image), high, wide))
        widths.append(maps.um_per_pixel * side)
    third = slice(high // 3, high - high // 3), slice(wide // 3, wide - wide // 3)
    middle = maps.shares[third][..., CLASSES.index("platelet") :].sum(axis=-1).mean()
    near = abs(np.log2(widths[0] / widths[1])) < AGREE
    return bool(near and max(widths) < WIDEST_CROP and middle > SEEN)


def _fills_the_middle(boxes: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Return whether one of the boxes is the subject of the image."""
    height, width = shape
    short, long = sorted((height, width))
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    away = np.abs(middle - [width / 2, height / 2]).max(axis=1)
    side = (boxes[:, 2:4] - boxes[:, :2]).max(axis=1)
    # photographs of fields are mostly wider than high, crops are not
    share = SHARE_OF_A_CROP if long <= 1.15 * short else 2 * SHARE_OF_A_CROP
    return bool(((away < short / 6) & (side >= share * short)).any())


def default_detector(n_jobs: int | None = None) -> SmearDetector:
    """Return the default detector, ready to be used."""
    return SmearDetector(n_jobs=n_jobs).fit(np.full((1, 8, 8, 3), 255, np.uint8))


@dataclass(frozen=True)
class FieldReading:
    """What was found in one field.

    Parameters
    ----------
    field : uint8 array (H, W, 3)
        The image.
    table : DataFrame
        One row a cell: ``cell`` (from 1), ``label``, ``confidence``, ``x0``, ``y0``, ``x1``,
        ``y1``, ``score``, ``nucleus_area``, ``cell_area``, ``nc_ratio``, ``error``.
    cell_map : uint8 array (H, W)
        The outlines of the first 127 cells.
    red_cell_radius : float
        In pixels; NaN where it was not measured.
    warnings : tuple of str
        What speaks against the field; empty where nothing does.

    Examples
    --------
    :class:`FieldReader` makes them:

    >>> from hemaest.clinical import FieldReading
    >>> list(FieldReading.__dataclass_fields__)
    ['field', 'table', 'cell_map', 'red_cell_radius', 'warnings']
    """

    field: Image
    table: pd.DataFrame
    cell_map: Image
    red_cell_radius: float
    warnings: tuple[str, ...] = ()

    def display(self) -> Any:
        """Return an undrawn :class:`~hemaest.inspection.SmearDisplay` with labels and outlines."""
        boxes = self.table[BOX].to_numpy(dtype=float)
        confidence = self.table["confidence"].to_numpy(dtype=float)
        if len(boxes) and not np.isnan(confidence).any():
            # beside a label a reader takes a number for the confidence in the label
            boxes = np.column_stack([boxes, confidence])
        names = self.table["label"].tolist()
        return inspection.SmearDisplay(self.field, boxes, cell_map=self.cell_map, names=names)


class FieldReader:
    """Find, outline and classify the leukocytes of fields.

    Parameters
    ----------
    classifier : fitted classifier
        Of single cells; or, with ``detector=None``, a pipeline that begins with a detector.
    detector : fitted SmearDetector, optional
        Finds the cells; by default the first step of the pipeline, or the default detector.
    trained_size : (int, int), optional
        Height and width of the classifier's training images.
    trained_radius : float, optional
        The radius of a red cell in its training images, in pixels. With both, cells are cut out as
        the classifier saw cells in training: with as much around them, and as large.

    Examples
    --------
    >>> from hemaest.datasets import make_cells, make_smear
    >>> from hemaest.recipes import make_recipe
    >>> cells = make_cells(16, classes=["lymphocyte", "neutrophil"], random_state=0)
    >>> model = make_recipe("color-logistic").fit(cells.images, cells.target)
    >>> field = make_smear(420, n_cells=3, random_state=0).image
    >>> reading = FieldReader(model).read(field)
    >>> set(reading.table["label"]) <= {"lymphocyte", "neutrophil"}
    True
    """

    def __init__(
        self,
        classifier: Any,
        *,
        detector: SmearDetector | None = None,
        trained_size: tuple[int, int] | None = None,
        trained_radius: float | None = None,
    ) -> None:
        self.has_detector = detector is None and _begins_with_detector(classifier)
        if self.has_detector:
            detector, classifier = classifier.steps[0][1], classifier[1:]
        self.classifier = classifier
        self.detector = default_detector() if detector is None else detector
        self.trained_size = trained_size
        self.trained_radius = trained_radius

    @property
    def scales(self) -> bool:
        """Whether cells are brought to the magnification of the training images."""
        return bool(self.trained_radius and self.trained_size and not self.has_detector)

    def red_cell_radius(self, fields: Sequence[Image]) -> float:
        """Return the median radius of red cells in fields of one microscope; NaN without any."""
        if not len(fields):
            return float("nan")
        return float(self.detector.count(to_object_array(fields))["red_cell_radius"].median())

    def read(
        self, field: Any, *, red_cell_radius: float | None = None, found: Bunch | None = None
    ) -> FieldReading:
        """Read one field.

        Parameters
        ----------
        field : image
            As :func:`hemaest.images.check_images` takes one.
        red_cell_radius : float, optional
            Where it is known; by default it is measured in this field.
        found : Bunch, optional
            What :func:`found_in_field` found in it with this detector, where it was asked before.

        Returns
        -------
        reading : FieldReading
        """
        (checked,) = check_images([field], estimator="FieldReader")
        image = rgb(checked if isinstance(checked, np.ndarray) else checked.read())
        found = _found(image, self.detector) if found is None else found
        radius = float("nan") if red_cell_radius is None else red_cell_radius
        if self.scales and red_cell_radius is None and len(found.table):
            radius = self.red_cell_radius([image])
        crops = self._crops(image, found, radius)
        # cells that are brought to the scale of the training images are not at that of the field
        um = None if self.scales or "quality" not in found else scale_of_field(found.quality)
        named = name_cells(self.classifier, crops, um_per_pixel=um)
        rows = [
            {
                "cell": int(row.cell) + 1,
                "label": cell.label,
                "confidence": cell.confidence,
                **{name: round(float(getattr(row, name)), 3) for name in (*BOX, "score")},
                **measures(labels),
                "error": cell.error,
            }
            for row, labels, cell in zip(
                found.table.itertuples(index=False), found.maps, named, strict=True
            )
        ]
        columns = ["cell", "label", "confidence", *BOX, "score", *measures(NOTHING), "error"]
        table = pd.DataFrame(rows, columns=columns)
        warnings = tuple(field_warnings(found.quality)) if "quality" in found else ()
        return FieldReading(image, table, _field_map(image.shape[:2], found), radius, warnings)

    def _crops(self, image: Image, found: Any, radius: float) -> list[Image]:
        if not self.scales or not radius > 0:
            return list(found.images)
        assert self.trained_size is not None and self.trained_radius is not None
        boxes = found.table[BOX].to_numpy(dtype=float)
        return [
            crop_at(image, box, self.trained_size, radius / self.trained_radius) for box in boxes
        ]


def assess_cells(
    classifier: Any, X: NDArray[Any], *, um_per_pixel: float | None = None
) -> tuple[NDArray[Any], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Return labels, probabilities (None without any) and which cells the classifier knows.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier(strategy="most_frequent").fit([[0], [1], [2]], ["a", "b", "b"])
    >>> assess_cells(model, [[3]])
    (array(['b'], dtype='<U1'), array([[0., 1.]]), array([ True]))
    """
    if hasattr(classifier, "assess"):  # one look says all three
        seen = classifier.assess(X, um_per_pixel=um_per_pixel)
        return seen.labels, seen.probabilities, seen.familiar >= 0
    labels, probabilities = labels_and_probabilities(classifier, X, um_per_pixel=um_per_pixel)
    return labels, probabilities, np.ones(len(labels), bool)


def familiar_cells(classifier: Any, images: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which cells are like those that a classifier knows, all where it does not say so.

    Examples
    --------
    >>> familiar_cells("a model that does not say so", np.zeros((2, 8, 8, 3), np.uint8)).tolist()
    [True, True]
    """
    if not hasattr(classifier, "assess"):
        return np.ones(len(images), bool)
    return np.asarray(classifier.score_samples(images)) >= 0


def scale_of_field(quality: pd.DataFrame) -> float | None:
    """Return the scale of one field in micrometers a pixel, None where it could not be measured.

    Parameters
    ----------
    quality : DataFrame
        Its row, as :meth:`~hemaest.segmentation.SmearDetector.quality` returns it.

    Examples
    --------
    >>> scale_of_field(pd.DataFrame({"um_per_pixel": [0.2]}))
    0.2
    """
    um = float(quality["um_per_pixel"].iloc[0])
    return um if np.isfinite(um) else None


def field_warnings(quality: pd.DataFrame) -> list[str]:
    """Return what speaks against one field, in words.

    Parameters
    ----------
    quality : DataFrame
        Its row, as :meth:`~hemaest.segmentation.SmearDetector.quality` returns it.

    Examples
    --------
    >>> field_warnings(pd.DataFrame({"warning": ["uneven light; no cell that shows the scale"]}))
    ['uneven light', 'no cell that shows the scale']
    """
    return [part for part in quality["warning"].iloc[0].split("; ") if part]


NOTHING = np.zeros((1, 1), np.uint8)


def measures(labels: Image) -> dict[str, Any]:
    """Return areas and N:C ratio of the one cell of a map.

    Examples
    --------
    >>> measures(np.array([[0, 1, 2, 2]], np.uint8))
    {'nucleus_area': 2, 'cell_area': 3, 'nc_ratio': 0.667}
    """
    nucleus, cell = int((cellmap.nuclei(labels) > 0).sum()), int((labels > 0).sum())
    ratio = round(nucleus / cell, 3) if cell else None
    return {"nucleus_area": nucleus, "cell_area": cell, "nc_ratio": ratio}


def crop_at(field: Image, box: Any, size: tuple[int, int], scale: float) -> Image:
    """Cut a window around a box and bring it to a size; outside is the color of the border.

    Parameters
    ----------
    field : uint8 array (H, W, 3)
        The whole field.
    box : sequence of float
        x0, y0, x1, y1.
    size : (int, int)
        Height and width of the result.
    scale : float
        Pixels of the field for one of the result.

    Examples
    --------
    >>> field = np.zeros((50, 50, 3), np.uint8)
    >>> field[20:30, 20:30] = 255
    >>> cut = crop_at(field, (20, 20, 30, 30), (40, 40), 0.5)
    >>> cut.shape, cut[20, 20].tolist(), cut[5, 5].tolist()
    ((40, 40, 3), [255, 255, 255], [0, 0, 0])
    """
    high, wide = (max(2, round(side * scale)) for side in size)
    # the cell stays in the middle, as it is in training images
    top, left = round((box[1] + box[3] - high) / 2), round((box[0] + box[2] - wide) / 2)
    canvas = np.empty((high, wide, 3), np.uint8)
    canvas[:] = border_color(field)
    y0, x0 = max(0, top), max(0, left)
    part = field[y0 : max(0, top + high), x0 : max(0, left + wide)]
    canvas[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return scale_to(canvas, *size)


def _field_map(size: tuple[int, int], found: Any) -> Image:
    """Return the cell map of a field from the maps of its crops; more than 127 do not fit."""
    labels = np.zeros(size, np.uint8)
    corners = found.table[["crop_x0", "crop_y0"]].to_numpy(dtype=int)[: cellmap.MAX_CELLS]
    for k, ((x0, y0), own) in enumerate(zip(corners, found.maps, strict=False), 1):
        part = labels[y0 : y0 + own.shape[0], x0 : x0 + own.shape[1]]
        part[own > 0] = cellmap.encode(k * (own > 0), cellmap.nuclei(own))[own > 0]
    return labels


def _begins_with_detector(model: Any) -> bool:
    steps: Any = getattr(model, "steps", None)
    return bool(steps) and hasattr(steps[0][1], "detect_cells")
