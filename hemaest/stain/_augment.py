"""Stain augmentation: each image as if another laboratory had stained it."""

from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest._color import STAIN_BASES, stain_basis
from hemaest._parallel import map_images
from hemaest._seeds import spawn
from hemaest.base import ImageEstimator, Interval, StrOptions
from hemaest.groups import check_labels
from hemaest.images import pack, to_object_array
from hemaest.stain import _kernels
from hemaest.stain._pixels import flatten, new_like, room_for


def draw_operators(
    n: int,
    random_state: Any = None,
    basis: str | ArrayLike = "giemsa",
    *,
    concentration: float = 0.3,
    basis_angle: float = 6.0,
    background: float = 0.03,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw n random changes of stain; change i does not depend on n.

    A change is a matrix and an offset in optical density::

        density = log(256 / (image + 1))            # (..., 3)
        density = density @ matrix.T + offset
        image   = 256 * exp(-density) - 1           # rounded, clipped to 0..255

    so that the same change can be applied by any array library. With B the stain vectors as rows
    (nuclear stain, eosin, and what is neither), ``matrix = B'.T @ diag(gains, 1) @ inv(B.T)``,
    where B' are the tilted stains; all zero parameters give the identity.

    Parameters
    ----------
    n : int
        How many.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.
    basis : str or array of shape (2, 3)
        As :func:`hemaest._color.stain_basis` takes it.
    concentration : float
        The gain of each stain is ``exp(u)``, u uniform in -concentration to concentration.
    basis_angle : float
        Each stain vector is tilted by up to this many degrees, in any direction.
    background : float
        Density added to each channel, uniform in -background to background: the light's color.

    Returns
    -------
    matrices : float32 array of shape (n, 3, 3)
    offsets : float32 array of shape (n, 3)

    Examples
    --------
    >>> matrices, offsets = draw_operators(
    ...     1, random_state=0, concentration=0, basis_angle=0, background=0
    ... )
    >>> bool(np.allclose(matrices[0], np.eye(3), atol=1e-6)), bool(offsets.any())
    (True, False)
    """
    rows = stain_basis(basis)
    even, normal = spawn(random_state, 2)
    drawn, sideways = even.random((n, 7)), normal.standard_normal((n, 2, 3))
    gains = np.ones((n, 3))
    gains[:, :2] = np.exp(concentration * (2 * drawn[:, :2] - 1))
    tilted = _tilt(rows[:2], np.radians(basis_angle) * drawn[:, 2:4], sideways)
    normals = np.cross(tilted[:, 0], tilted[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    stains = np.concatenate([tilted, normals[:, None]], axis=1)
    matrices = stains.transpose(0, 2, 1) @ (gains[:, :, None] * np.linalg.inv(rows.T))
    offsets = background * (2 * drawn[:, 4:] - 1)
    return matrices.astype(np.float32), offsets.astype(np.float32)


def _tilt(
    vectors: NDArray[np.float64], angles: NDArray[np.float64], sideways: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return unit vectors (2, 3) turned by angles (n, 2) toward directions (n, 2, 3)."""
    sideways = sideways - (sideways * vectors).sum(axis=-1, keepdims=True) * vectors
    sideways /= np.linalg.norm(sideways, axis=-1, keepdims=True)
    angles = angles[..., None]
    return np.cos(angles) * vectors + np.sin(angles) * sideways


class StainAugmenter(ImageEstimator):
    """Show a model each image as if other laboratories had stained it.

    It changes the strength of both stains, their colors, and the color of the light, by one
    3 x 3 operator in optical density for each image. It is a sampler: in a pipeline it adds copies
    while the pipeline is fitted and does nothing when it predicts, so it has no ``transform``.
    Deep models take it as ``augment=``; :meth:`augment` also makes the shifted test sets of
    stain-shift curves.

    The model, for other implementations, is that of ``draw_operators`` in this module::

        density = log(256 / (image + 1))
        image   = 256 * exp(-(density @ matrix.T + offset)) - 1

    Parameters
    ----------
    strength : float, default=1
        Multiplies the three sizes below; 0 changes nothing.
    concentration : float, default=0.3
        Each stain is made up to ``exp(0.3)`` times stronger or weaker.
    basis_angle : float, default=6
        Each stain vector is tilted by up to this many degrees.
    background : float, default=0.03
        Optical density added to or taken from each channel.
    basis : {"giemsa", "wright", "he"} or array of shape (2, 3), default="giemsa"
        The stains.
    n_copies : int, default=1
        Changed copies that ``fit_resample`` adds for each image.
    random_state : int, RandomState or None
        Image i is changed in the same way in any set that holds it at place i.
    n_jobs : int, optional
        Threads.

    Attributes
    ----------
    sample_indices_ : int array
        After ``fit_resample``: the row that each image is, or is a copy of.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.stain import StainAugmenter
    >>> cells = np.full((2, 8, 8, 3), (150, 80, 160), np.uint8)
    >>> augmenter = StainAugmenter(random_state=0)
    >>> X, y = augmenter.fit_resample(cells, ["blast", "lymphocyte"])
    >>> len(X), y.tolist(), augmenter.sample_indices_.tolist()
    (4, ['blast', 'lymphocyte', 'blast', 'lymphocyte'], [0, 1, 0, 1])
    """

    _min_pixels = 1
    _stateless = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "strength": [Interval(Real, 0, None, closed="left")],
        "concentration": [Interval(Real, 0, None, closed="left")],
        "basis_angle": [Interval(Real, 0, 90, closed="left")],
        "background": [Interval(Real, 0, None, closed="left")],
        "basis": [StrOptions(set(STAIN_BASES)), "array-like"],
        "n_copies": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        strength: float = 1.0,
        concentration: float = 0.3,
        basis_angle: float = 6.0,
        background: float = 0.03,
        basis: Literal["giemsa", "wright", "he"] | ArrayLike = "giemsa",
        n_copies: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ):
        self.strength = strength
        self.concentration = concentration
        self.basis_angle = basis_angle
        self.background = background
        self.basis = basis
        self.n_copies = n_copies
        self.random_state = random_state
        self.n_jobs = n_jobs

    def draw(
        self, n: int, random_state: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw n changes of stain, to apply elsewhere.

        Parameters
        ----------
        n : int
            How many.
        random_state : int, RandomState or None
            The estimator's own where None.

        Returns
        -------
        matrices : float32 array of shape (n, 3, 3)
        offsets : float32 array of shape (n, 3)
        """
        self._validate_params()
        seed = self.random_state if random_state is None else random_state
        return draw_operators(
            n,
            seed,
            self.basis,
            concentration=self.strength * self.concentration,
            basis_angle=self.strength * self.basis_angle,
            background=self.strength * self.background,
        )

    def augment(self, X: Any, random_state: Any = None) -> NDArray[Any]:
        """Return each image under a change of stain of its own.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; a cell map is copied.
        random_state : int, RandomState or None
            The estimator's own where None.

        Returns
        -------
        images : uint8 array (n, H, W, C) or 1-D object array
        """
        X = self._check_images(X)
        matrices, offsets = self.draw(len(X), random_state)
        result, places = room_for(X)
        images = map_images(restain, X, matrices, offsets, places, n_jobs=self.n_jobs)
        return result if X.dtype != object else to_object_array(images)

    def fit_resample(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the images followed by their changed copies.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels; copies keep theirs.

        Returns
        -------
        images : uint8 array or 1-D object array
            ``(1 + n_copies) * n`` images.
        y : array
        """
        X = self._check_images(X)
        y = check_labels(y, len(X), self)
        index = np.tile(np.arange(len(X)), self.n_copies)
        matrices, offsets = self.draw(len(index))
        copies = map_images(restain, X[index], matrices, offsets, n_jobs=self.n_jobs)
        self.sample_indices_ = np.concatenate([np.arange(len(X)), index])
        # files that are only referred to stay files
        images = pack([*X, *copies], dense=X.dtype != object)
        return images, y[self.sample_indices_]


def restain(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    offset: NDArray[np.float32],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return an image whose optical densities went through ``matrix @ density + offset``."""
    flat, step, _ = flatten(image).where
    result = new_like(image, out)
    none = np.float32(0)
    _kernels.apply_density(flat, step, matrix, offset, none, none, result.reshape(-1))
    return result
