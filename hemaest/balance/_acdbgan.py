"""A class-conditional GAN that fills up rare classes, as a sampler for training folds."""

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, check_scalar

from hemaest import deep, nets
from hemaest._seeds import seed_of
from hemaest.balance._judges import fit_judges
from hemaest.balance._quota import deficits, quotas
from hemaest.balance._rendered import RenderedCellSampler
from hemaest.base import (
    HasMethods,
    ImageEstimator,
    Interval,
    StrOptions,
    TakesGroups,
    checked_fit,
    refuse_bare_fitted,
)
from hemaest.groups import check_groups, check_labels, encode
from hemaest.images import as_array, to_object_array

if TYPE_CHECKING:
    import pandas as pd


SYNTHETIC = -1
# rounds of drawing after which a class stays short
MOST_ROUNDS = 10


class ACDBGAN(TakesGroups, ImageEstimator):
    """Fill up rare classes with synthetic cells: adaptive class distribution balancing.

    One generator learns all classes, so that a rare one borrows from the others what cells have in
    common. Three things keep it honest:

    - *Adaptive quota.* How many images a class gets follows from its deficit, and from how often
      small classifiers miss it on inner folds that keep groups together.
    - *Realism filter.* A synthetic cell is dropped when it lies further from the training cells of
      its class than unseen real cells do, and when it lies so near that it is a copy.
    - *Only inside.* It is a sampler: a pipeline runs it in ``fit`` and never in ``predict``.
      ``sample_indices_`` is -1 for what is synthetic, and whoever holds data out inside (early
      stopping) takes it as ``resampler=`` and splits first.

    Cheaper means did better in our own small benchmark: see the user guide on classes of unequal
    size, and try ``class_weight``, ``loss="logit-adjusted"`` or oversampling first.

    Parameters
    ----------
    image_size : int, default=64
        Side of the synthetic images, 16 to 256: 4, 5, 6 or 7 times a power of two. Take that of
        the classifier.
    max_steps : int, default=6000
        Steps of training.
    batch_size : int, default=32
        Images in one step.
    lr : float, default=2e-3
        Highest learning rate (Adam), reached after a short warm-up and left along a cosine.
    width : int, default=32
        Channels of the largest feature map. 16 is bearable on a CPU.
    latent_size : int, default=64
        Length of the noise.
    penalty : float or "auto", default="auto"
        Weight of the R1 and R2 penalties: how smooth the discriminator must be. ``"auto"`` grows
        with the number of pixels, 0.02 at 32 pixels. With too much the discriminator learns so
        slowly that the generator gets away with one face for each class.
    penalty_every : int, default=4
        Steps from one penalty to the next, which then counts so many times.
    target : float, default=1.0
        Share of the largest class up to which the others are filled.
    adaptive : bool, default=True
        Whether recall on inner folds scales the quota: a deficit is filled where half of the class
        or more is missed, and less and less as more is recognized. Else every deficit is filled.
    realism_filter : bool, default=True
        Whether to drop what is too far from real cells, and copies.
    source : {"noise", "rendered"}, default="noise"
        What the generator starts from. ``"rendered"``: cells of
        :class:`~hemaest.balance.RenderedCellSampler`, matched to the training images, to which it
        makes small changes, so that the label comes with the shape and far fewer real images are
        needed. A class that the renderer cannot draw takes no part; one that lacks images is
        refused.
    names : dict or None, default=None
        For ``source="rendered"``: as in :class:`~hemaest.balance.RenderedCellSampler`.
    structure : float, default=5.0
        For ``source="rendered"``: weight of the loss that keeps the structure of a rendered cell,
        whatever its colors.
    encoder : classifier or None, default=None
        With ``transform`` and ``image_size``, such as an :class:`~hemaest.deep.ImageClassifier`:
        it measures recall and distances. Unfitted, it is fitted on each inner fold; one that was
        fitted on other images goes in as ``FrozenEstimator``. By default a small network.
    inner_folds : int, default=3
        Folds of the two above.
    min_images : int, default=8
        A class with fewer gets augmented copies instead, with a warning.
    checkpoint_dir : path or None, default=None
        Where to leave the state of training; the same fit started again continues from there.
    image_dir : path or None, default=None
        Where to leave grids of the same noise while it learns, one row for each class.
    report_every : int, default=250
        Steps between checkpoints, sample images and rows of ``history_``.
    device : str, default="auto"
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is float32 on a CPU, bfloat16 on a GPU that has it.
    random_state : int, RandomState or None, default=None
        With a seed two fits on a CPU agree bit for bit.
    verbose : bool or None, default=None
        Whether to show a progress bar; None does when a person is watching.

    Attributes
    ----------
    classes_ : array
        The labels, sorted.
    counts_ : int array
        Images of each class.
    recall_ : float array or None
        Of each class on the inner folds; NaN, and then the whole deficit is filled, where a class
        was never on both sides of one, as when all its images are of one patient.
    quota_ : int array
        How many images ``fit_resample`` makes of each class.
    learned_ : bool array
        Which classes the generator knows; the others get augmented copies.
    weights_ : dict of arrays
        The averaged generator.
    renderer_ : RenderedCellSampler or None
        Draws what the generator starts from, with ``source="rendered"``.
    drawable_ : bool array
        Which classes the generator can start from: with ``source="noise"`` all.
    judges_ : object or None
        What the realism filter knows.
    filtered_ : dict
        After ``fit_resample``, by label: how many were drawn, too far, copies and kept.
    sample_indices_ : int array
        After ``fit_resample``: the row that each image is or is an augmented copy of, -1 where it
        is synthetic.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.balance import ACDBGAN
    >>> rng = np.random.default_rng(0)
    >>> cells = rng.integers(90, 160, (24, 16, 16, 3)).astype(np.uint8)
    >>> y = np.repeat(["blast", "basophil"], [14, 10])
    >>> gan = ACDBGAN(image_size=16, max_steps=4, width=4, adaptive=False, realism_filter=False,
    ...               random_state=0)
    >>> X_new, y_new = gan.fit_resample(cells, y)
    >>> X_new.shape, (y_new == "basophil").sum(), gan.sample_indices_[-4:]
    ((28, 16, 16, 3), np.int64(14), array([-1, -1, -1, -1]))
    >>> gan.sample(2, "basophil").shape
    (2, 16, 16, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "image_size": [Interval(Integral, 16, 256, closed="both")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "width": [Interval(Integral, 4, None, closed="left")],
        "latent_size": [Interval(Integral, 4, None, closed="left")],
        "penalty": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "penalty_every": [Interval(Integral, 1, None, closed="left")],
        "target": [Interval(Real, 0, 1, closed="right")],
        "adaptive": ["boolean"],
        "realism_filter": ["boolean"],
        "source": [StrOptions({"noise", "rendered"})],
        "names": [dict, None],
        "structure": [Interval(Real, 0, None, closed="left")],
        "encoder": [HasMethods(["fit", "transform", "predict"]), None],
        "inner_folds": [Interval(Integral, 2, None, closed="left")],
        "min_images": [Interval(Integral, 2, None, closed="left")],
        "checkpoint_dir": [str, Path, None],
        "image_dir": [str, Path, None],
        "report_every": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        *,
        image_size: int = 64,
        max_steps: int = 6000,
        batch_size: int = 32,
        lr: float = 2e-3,
        width: int = 32,
        latent_size: int = 64,
        penalty: float | Literal["auto"] = "auto",
        penalty_every: int = 4,
        target: float = 1.0,
        adaptive: bool = True,
        realism_filter: bool = True,
        source: Literal["noise", "rendered"] = "noise",
        names: Mapping[Any, str | Sequence[str]] | None = None,
        structure: float = 5.0,
        encoder: Any = None,
        inner_folds: int = 3,
        min_images: int = 8,
        checkpoint_dir: str | Path | None = None,
        image_dir: str | Path | None = None,
        report_every: int = 250,
        device: str = "auto",
        precision: str = "auto",
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        self.image_size = image_size
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.lr = lr
        self.width = width
        self.latent_size = latent_size
        self.penalty = penalty
        self.penalty_every = penalty_every
        self.target = target
        self.adaptive = adaptive
        self.realism_filter = realism_filter
        self.source = source
        self.names = names
        self.structure = structure
        self.encoder = encoder
        self.inner_folds = inner_folds
        self.min_images = min_images
        self.checkpoint_dir = checkpoint_dir
        self.image_dir = image_dir
        self.report_every = report_every
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @checked_fit
    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from training images, and only from them.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; a cell map is not looked at.
        y : array-like of shape (n,)
            Labels of any kind.
        groups : array-like of shape (n,), optional
            Patients or smears that the inner folds keep together.

        Returns
        -------
        self : object
        """
        self._fit(self._check_images(X), y, groups)
        return self

    def _fit(self, X: NDArray[Any], y: Any, groups: Any) -> tuple[NDArray[Any], int]:
        from hemaest.balance._gan_training import few_squares, fit_generator, resume_checkpoint

        nets.gan.stages(self.image_size)
        self._check_encoder()
        y = check_labels(y, len(X), self)
        check_groups(groups, len(X))
        self.classes_, self.counts_ = np.unique(y, return_counts=True)
        self.learned_ = self.counts_ >= self.min_images
        if not self.learned_.any():
            largest = self.classes_.tolist()[self.counts_.argmax()]
            raise ValueError(
                f"no class has min_images={self.min_images} images (the largest, {largest!r}, has "
                f"{self.counts_.max()}); a GAN cannot learn from so few. Take class weights or "
                "oversampling."
            )
        self._warn_of_few()
        target = encode(y, self.classes_)
        # a resumed run continues with its own seed
        checkpoint, seed = resume_checkpoint(self, X, target, groups, seed_of(self.random_state))
        self._match_renderer(X, y, seed)
        self.judges_ = self._fit_judges(X, y, groups, seed)
        self.recall_ = self.judges_.recall if self.judges_ is not None else None
        self.quota_ = quotas(self.counts_, self.recall_ if self.adaptive else None, self.target)
        self.filtered_: dict[Any, dict[str, int]] = {}
        self._few = few_squares(X, target, ~self.learned_, self.image_size)
        fit_generator(self, X, target, checkpoint, seed)
        return y, seed

    def _adopt(self, weights: dict[str, NDArray[Any]], history: list[dict[str, float]]) -> None:
        self.weights_, self._history = weights, history

    def _match_renderer(self, X: NDArray[Any], y: NDArray[Any], seed: int) -> None:
        self.renderer_, self.drawable_ = None, np.ones(len(self.classes_), bool)
        if self.source == "noise":
            return
        renderer = RenderedCellSampler(names=self.names, random_state=seed)
        for code in np.flatnonzero(self.learned_ & (deficits(self.counts_, self.target) > 0)):
            renderer.check_drawable(self.classes_[code])
        self.renderer_ = renderer.match(X, y)
        self.drawable_ = np.array([bool(renderer.drawable(label)) for label in self.classes_])

    def _warn_of_few(self) -> None:
        few = [
            f"{label!r} ({count})"
            for label, count in zip(self.classes_.tolist(), self.counts_, strict=True)
            if count < self.min_images
        ]
        if few:
            warnings.warn(
                f"too few images for a GAN (min_images={self.min_images}): {', '.join(few)}. "
                "They are filled up with augmented copies instead.",
                stacklevel=4,
            )

    def _fit_judges(self, X: NDArray[Any], y: NDArray[Any], groups: Any, seed: int) -> Any:
        if not (self.realism_filter or self.adaptive):
            return None
        if len(self.classes_) < 2:
            if self.realism_filter:
                warnings.warn(
                    f"there is only one class, {self.classes_.tolist()[0]!r}, and the realism "
                    "filter has to separate it from a second: what is drawn is not filtered. Give "
                    "the other classes too, or set realism_filter=False.",
                    stacklevel=4,
                )
            return None
        return fit_judges(
            self._encoder(),
            X,
            y,
            self.classes_,
            groups=groups,
            n_folds=self.inner_folds,
            seed=seed,
        )

    def _check_encoder(self) -> None:
        if self.encoder is None:
            return
        refuse_bare_fitted(self.encoder, "encoder", "")
        if not hasattr(getattr(self.encoder, "estimator", self.encoder), "image_size"):
            raise ValueError(
                f"encoder is a {type(self.encoder).__name__} without image_size, which says how "
                "large images are to be compared; give an ImageClassifier or one of its kind."
            )

    def _encoder(self) -> Any:
        if self.encoder is not None:
            return self.encoder

        return deep.ImageClassifier(
            "cellnet",
            image_size=min(self.image_size, 96),
            max_epochs=15,
            batch_size=16,
            lr=2e-3,
            resampler="balanced",
            checkpoint_dir=self.checkpoint_dir,
            device=self.device,
            # distances are compared with one another
            precision="float32",
            verbose=False,
        )

    def sample(
        self, n: int, label: Any, *, filtered: bool | None = None, random_state: Any = None
    ) -> NDArray[np.uint8]:
        """Return synthetic images of one class.

        Parameters
        ----------
        n : int
            How many, 0 or more. The filter may let fewer through; a warning then says so.
        label : label
            One of ``classes_``.
        filtered : bool, optional
            Whether the realism filter looks at them; by default where one was fitted.
        random_state : int, RandomState or None
            The estimator's own where None.

        Returns
        -------
        images : uint8 array of shape (n, image_size, image_size, 3)
        """
        check_is_fitted(self, "weights_")
        check_scalar(n, "n", Integral, min_val=0)
        code = int(encode(np.asarray([label]), self.classes_)[0])
        if filtered and self.judges_ is None:
            raise ValueError(
                "filtered=True, but no filter was fitted; set realism_filter=True before fit, and "
                "give two classes or more."
            )
        filtered = self._filters() if filtered is None else filtered
        seed = seed_of(self.random_state if random_state is None else random_state)
        return self._make(n, code, filtered, seed)[0]

    def _filters(self) -> bool:
        return self.realism_filter and self.judges_ is not None

    def _make(
        self, n: int, code: int, filtered: bool, seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.intp], dict[str, int]]:
        """Return images of a class, the rows that they are copies of (-1: none), and the tally."""
        from hemaest.balance._gan_training import augmented_copies, drawer

        nothing = np.empty((0, self.image_size, self.image_size, 3), np.uint8)
        if not n:
            return nothing, np.empty(0, np.intp), {}
        if not self.learned_[code]:
            return *augmented_copies(*self._few[code], n, [seed, code]), {}
        draw = drawer(self, code, [seed, code])
        if not filtered:
            return draw(n), np.full(n, SYNTHETIC), {}
        kept = [nothing]
        tally = {"drawn": 0, "too far": 0, "copies": 0, "kept": 0}
        for _ in range(MOST_ROUNDS):
            missing = n - tally["kept"]
            if missing <= 0:
                break
            images = draw(max(16, 2 * missing))
            far, copies = self.judges_.verdict(images, code)
            good = images[~(far | copies)][:missing]
            kept.append(good)
            for name, count in zip(
                tally, (len(images), far.sum(), copies.sum(), len(good)), strict=True
            ):
                tally[name] += int(count)
        label = self.classes_.tolist()[code]
        if tally["kept"] < n:
            warnings.warn(
                f"only {tally['kept']} of {n} images of class {label!r} pass the realism filter "
                f"({tally['drawn']} drawn, {tally['too far']} too far from real cells, "
                f"{tally['copies']} copies): more max_steps, a larger width or more real images "
                "help.",
                stacklevel=3,
            )
        made = np.concatenate(kept)
        return made, np.full(len(made), SYNTHETIC), tally

    def fit_resample(
        self, X: Any, y: ArrayLike, groups: ArrayLike | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Learn, and return the images followed by synthetic ones of the rare classes.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them, without cell maps.
        y : array-like of shape (n,)
            Labels.
        groups : array-like of shape (n,), optional
            What the inner folds keep together.

        Returns
        -------
        images : uint8 array or 1-D object array
            Dense where X is dense and of ``image_size``.
        y : array
        """
        self._validate_params()
        X = self._check_images(X)
        if as_array(X[0]).shape[-1] == 4:
            raise ValueError(
                "X has cell maps, and synthetic cells have none; put the GAN before the segmenter, "
                "or give images[..., :3]."
            )
        y, seed = self._fit(X, y, groups)
        return self._fill(X, y, self.quota_, self._filters(), seed)

    def _fill(
        self, X: NDArray[Any], y: NDArray[Any], quota: NDArray[Any], filtered: bool, seed: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the images followed by as many of each class as the quota says."""
        made = {code: self._make(int(n), code, filtered, seed) for code, n in enumerate(quota) if n}
        names = self.classes_.tolist()
        self.filtered_ = {names[code]: tally for code, (_, _, tally) in made.items() if tally}
        rows = [np.arange(len(X)), *(source for _, source, _ in made.values())]
        self.sample_indices_ = np.concatenate(rows).astype(np.intp)
        labels = [np.full(len(images), self.classes_[code]) for code, (images, *_) in made.items()]
        return self._joined(X, [images for images, *_ in made.values()]), np.concatenate(
            [y, *labels]
        )

    def _joined(self, X: NDArray[Any], made: list[NDArray[np.uint8]]) -> NDArray[Any]:
        if X.dtype != object and X.shape[1:3] == (self.image_size, self.image_size):
            return np.concatenate([X, *made])
        return to_object_array([*X, *(image for images in made for image in images)])

    @property
    def history_(self) -> "pd.DataFrame":
        """The losses and the speed, for each stretch of steps."""
        check_is_fitted(self, "weights_")
        import pandas as pd

        return pd.DataFrame(self._history)
