"""Compare recipes on the same group-aware folds.

:func:`compare` prepares (:func:`_prepare`: checks, folds, recipes), runs every recipe on every fold
(:func:`_run`) and collects the results in a :class:`Comparison`. Leading steps that learn nothing,
such as the label-free segmentation, are applied once to all images instead of once a fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from hemaest._progress import track
from hemaest._seeds import seed_of
from hemaest.evaluation._comparison import Comparison
from hemaest.evaluation._design import Design, group_codes, make_folds
from hemaest.evaluation._folds import (
    FoldResult,
    SharedSteps,
    Task,
    fold_key,
    hash_images,
    run_fold,
    shrunk,
)
from hemaest.groups import check_labels, near_duplicate_groups
from hemaest.images import check_images
from hemaest.recipes import get_recipe, make_recipe

CONTROL = "color-logistic"
SHARES = (0.5, 0.25)
CALIBRATIONS = ("temperature", "isotonic", "sigmoid")
ALL_RECIPES_TAKE = frozenset({"device", "memory", "n_jobs", "random_state"})


def compare(
    recipes: Any,
    X: Any,
    y: Any,
    groups: Any = None,
    cv: Any = 5,
    *,
    n_repeats: int = 1,
    group_source: str | None = None,
    positive: Sequence[Any] | None = None,
    search: bool | Mapping[str, Any] = False,
    calibrate: str | None = None,
    control: bool = True,
    recipe_params: Mapping[str, Any] | None = None,
    covariates: Any = None,
    learning_curve: bool = False,
    metrics: Mapping[str, Callable[[Any, Any], float]] | None = None,
    confidence_level: float = 0.95,
    n_jobs: int | None = None,
    cache_dir: Any = None,
    random_state: Any = 0,
    verbose: bool | None = None,
) -> Comparison:
    """Compare recipes fairly: the same group-aware folds for all, intervals, tests, a control.

    Parameters
    ----------
    recipes : str, list of str, estimator or dict of str to estimator
        Names from :func:`hemaest.recipes.list_recipes`, or your own estimators under names of your
        own; a dict may also map to a recipe's name. All are cloned, none is changed.
    X : images
        As :func:`hemaest.images.check_images` takes them.
    y : array-like of shape (n_samples,)
        Labels of any kind.
    groups : array-like of shape (n_samples,), "image" or None
        Patient, smear or photograph of each image. None finds near-duplicates and keeps those
        together; ``"image"`` splits image by image and the result says so.
    cv : int, Split or splitter, default=5
        Number of stratified group folds; a split made by :func:`split` (fit on train, tune on
        validation, score on test); or a scikit-learn splitter or list of (train, test).
    n_repeats : int, default=1
        How often to repeat the folds with another partition, when `cv` is a number.
    group_source : str, optional
        What a group is ("patient", "smear"; a loader's ``group_source``), for the report. Where it
        is not known and every image is a group of its own, the split is one by image.
    positive : sequence of labels, optional
        The labels that count as positive in a two-sided view (malignant against benign).
    search : bool or dict, default=False
        Tune inside each training fold: True uses the recipes' own ``param_grid``, a dict maps names
        to grids.
    calibrate : {"temperature", "isotonic", "sigmoid"}, optional
        Calibrate each recipe inside each training fold, by group; costs three more fits.
    control : bool, default=True
        Add ``color-logistic``, a logistic regression on mean and spread of the colors alone. What
        it reaches needs no morphology.
    recipe_params : dict, optional
        Options of :func:`hemaest.recipes.make_recipe`, given to each named recipe that takes them.
    covariates : DataFrame, optional
        What is known of each image, one row each ("stain", "cell_size", "scanner"): the report
        shows where a recipe errs. Stain and cell size are measured where they are not given.
    learning_curve : bool, default=False
        Also fit on a quarter and a half of each training fold, to show what more images would
        bring. Takes about as long again as three quarters of the comparison.
    metrics : dict of str to callable, optional
        Further scores, each called with true and predicted labels; one column of ``.table`` each.
    confidence_level : float, default=0.95
        Of all intervals.
    n_jobs : int, optional
        Processes over recipes and folds.
    cache_dir : path, optional
        Keep each finished fold here, as plain arrays; the same call later resumes from there.
    random_state : int, RandomState instance or None, default=0
        Seed of folds, recipes made by name, and bootstrap: two reports of one call agree. With
        None a seed is drawn and reported.
    verbose : bool, optional
        Show progress; by default only to a person at a terminal.

    Returns
    -------
    Comparison
        With ``.table``, ``.tests``, ``.per_class``, ``.binary``, ``.predictions``, ``.plot()``,
        ``.to_html(path)`` and ``.claim()``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> X = np.zeros((12, 8, 8, 3), np.uint8)
    >>> y = np.repeat(["blast", "lymphocyte"], 6)
    >>> result = compare({"chance": DummyClassifier()}, X, y, groups=np.arange(12) // 2, cv=3,
    ...                  control=False)
    >>> float(result.table.loc[0, "balanced_accuracy"])
    0.5
    """
    _check_options(n_repeats, calibrate, confidence_level, metrics)
    X = check_images(X, estimator="compare")
    y = check_labels(y, len(X), "compare", min_classes=2, min_per_class=2)
    classes, true = np.unique(y, return_inverse=True)
    seed = seed_of(random_state) if not isinstance(random_state, int) else random_state
    names = None if groups is None or isinstance(groups, str) else np.asarray(groups).astype(str)
    groups, unit = group_codes(groups, group_source, X)
    estimators, grids = _recipes(recipes, control, recipe_params or {}, search, seed)
    folds, validation, protocol = make_folds(cv, n_repeats, seed, X, y, groups)
    design = Design(
        folds=folds,
        validation=validation,
        protocol=protocol,
        unit=unit,
        groups=groups,
        seed=seed,
        confidence_level=confidence_level,
        data_hash=hash_images(X),
        searched=list(grids),
        control=CONTROL if CONTROL in estimators else None,
        positive=_positive(positive, classes),
        estimators=estimators,
        covariates=_covariates(covariates, len(X)),
        group_names=names,
        metrics=dict(metrics or {}),
    )
    shares = (1.0, *SHARES) if learning_curve else (1.0,)
    work = _Work(X, y, design, grids, calibrate, shares, cache_dir)
    results = _run(work, n_jobs, verbose)
    full = results.pop(1.0)
    _report_failures(full)
    return Comparison(full, true, classes, design, X, results)


@dataclass
class _Work:
    """What :func:`_run` does: each recipe on each fold, for each share of the training images."""

    X: NDArray[Any]
    y: NDArray[Any]
    design: Design
    grids: dict[str, Any]
    calibrate: str | None
    shares: tuple[float, ...]
    cache_dir: Any
    shared: SharedSteps = field(init=False)

    def __post_init__(self) -> None:
        self.shared = SharedSteps(self.X)
        self.data = joblib.hash((self.design.data_hash, self.y, self.design.groups))

    def keys(self) -> list[tuple[float, str, int]]:
        """Return the pieces of work: share, recipe, fold."""
        folds = range(len(self.design.folds))
        return [
            (share, r, f) for share in self.shares for f in folds for r in self.design.estimators
        ]

    def shares_steps(self, name: str) -> bool:
        """Return whether a recipe begins with steps that are computed once for all folds."""
        return self.shared.has(self.design.estimators[name], self.grids.get(name))

    def task(self, share: float, name: str, f: int) -> tuple[Task, NDArray[Any]]:
        """Return one piece of work and what its estimator takes for all images."""
        design, seed = self.design, self.design.seed
        train, test = design.folds[f]
        if share != 1:
            train = shrunk(train, self.y, design.groups, share, seed)
        estimator, cache = design.estimators[name], self.kept_at(share, name, f)
        applied: list[Any] = []
        seconds, X = 0.0, self.X
        if cache is None or not cache.exists():
            estimator, applied, seconds, X = self.shared.apply(estimator, self.grids.get(name))
        task = Task(
            clone(estimator),
            train,
            test,
            design.validation,
            self.grids.get(name),
            self.calibrate,
            seed,
            cache,
            share == 1,
            applied,
            seconds,
        )
        return task, X

    def kept_at(self, share: float, name: str, f: int) -> Path | None:
        """Return the file of a finished fold."""
        if self.cache_dir is None:
            return None
        design = self.design
        how = (self.grids.get(name), self.calibrate, share)
        parts: tuple[Any, ...] = design.folds[f]
        if design.validation is not None:
            parts = (*parts, design.validation)
        key = fold_key(design.estimators[name], how, self.data, design.seed, *parts)
        of = "" if share == 1 else f"-of-{share:g}"
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:60]
        return Path(self.cache_dir) / f"{safe}-{f}{of}-{key}.npz"


def _run(
    work: _Work, n_jobs: int | None, verbose: bool | None
) -> dict[float, dict[str, list[FoldResult]]]:
    """Run all pieces of work; return the results by share and recipe."""
    names = work.design.estimators
    # what shares steps last: other processes are busy while this one computes them
    keys = sorted(work.keys(), key=lambda key: work.shares_steps(key[1]))

    def piece(key: tuple[float, str, int]) -> Any:
        task, X = work.task(*key)
        images = None if X is work.X else work.X
        return delayed(run_fold)(task, X, work.y, work.design.groups, images)

    title, done = f"comparing {len(names)} recipes", list[FoldResult]()
    try:
        found = Parallel(n_jobs=n_jobs, return_as="generator")(map(piece, keys))
        done.extend(track(found, title, total=len(keys), show=verbose))
    except BrokenProcessPool:
        warnings.warn(
            "A process that fitted a fold was ended from outside, mostly because memory ran out. "
            "The other folds are fitted one after the other. To do so from the start, give "
            "n_jobs=1, or --jobs 1 on the command line.",
            stacklevel=3,
        )
        left = Parallel(n_jobs=1, return_as="generator")(map(piece, keys[len(done) :]))
        done.extend(track(left, title, total=len(keys) - len(done), show=verbose))
    results: dict[float, dict[str, list[FoldResult]]] = {
        share: {name: [] for name in names} for share in work.shares
    }
    for (share, name, _), result in zip(keys, done, strict=True):
        results[share][name].append(result)
    return results


def _check_options(n_repeats: Any, calibrate: Any, confidence_level: Any, metrics: Any) -> None:
    """Refuse before any fit what would fail after it."""
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats={n_repeats!r} must be a whole number of at least 1.")
    if calibrate not in (None, *CALIBRATIONS):
        raise ValueError(f"calibrate={calibrate!r} must be None or one of {list(CALIBRATIONS)}.")
    if not isinstance(confidence_level, Real) or not 0 < float(confidence_level) < 1:
        raise ValueError(
            f"confidence_level={confidence_level!r} must lie between 0 and 1, as 0.95 does."
        )
    if not all(callable(function) for function in (metrics or {}).values()):
        raise TypeError("metrics must map names to functions of true and predicted labels.")


def _recipes(
    recipes: Any, control: bool, params: Mapping[str, Any], search: Any, seed: int
) -> tuple[dict[str, BaseEstimator], dict[str, Any]]:
    """Return the estimators by name, and their grids where there is something to tune."""
    if isinstance(recipes, str):
        recipes = [recipes]
    if hasattr(recipes, "fit"):
        recipes = {type(recipes).__name__: recipes}
    if not isinstance(recipes, Mapping):
        recipes = {name: name for name in recipes}
    if control and CONTROL not in recipes:
        recipes = {**recipes, CONTROL: CONTROL}
    if not recipes:
        raise ValueError("There is no recipe to compare: give at least one name or estimator.")
    made, grids = {}, dict(search) if isinstance(search, Mapping) else {}
    unused = set(params)
    for name, recipe in recipes.items():
        if isinstance(recipe, str):
            known = get_recipe(recipe)
            if search is True and known.param_grid:
                grids[name] = known.param_grid
            allowed = ALL_RECIPES_TAKE | known.accepts
            options = {} if known.control else {k: v for k, v in params.items() if k in allowed}
            unused -= set(options)
            recipe = make_recipe(recipe, **{"random_state": seed, **options})
        elif not hasattr(recipe, "predict"):
            raise TypeError(
                f"recipe {name!r} is a {type(recipe).__name__}; a recipe is a classifier or the "
                "name of one (see hemaest.recipes.list_recipes)."
            )
        made[str(name)] = recipe
    if unused:
        raise ValueError(f"recipe_params {sorted(unused)} would change none of {list(recipes)}.")
    if unknown := set(grids) - set(made):
        raise ValueError(f"search names {sorted(unknown)}, but the recipes are {list(made)}.")
    return made, grids


def _covariates(table: Any, n: int) -> pd.DataFrame | None:
    """Return what is known of each image as a table of one row each."""
    if table is None:
        return None
    found = pd.DataFrame(table).reset_index(drop=True)
    if len(found) != n:
        raise ValueError(f"covariates has {len(found)} rows, but there are {n} images.")
    return found


def _positive(positive: Any, classes: NDArray[Any]) -> list[int]:
    if positive is None:
        return []
    alone = isinstance(positive, str) or not np.iterable(positive)
    wanted = [positive] if alone else list(positive)
    unknown = [p for p in wanted if p not in classes.tolist()]
    if unknown or len(wanted) >= len(classes):
        raise ValueError(
            f"positive={positive!r} must name some, but not all, of the classes {classes.tolist()}."
        )
    return [int(np.flatnonzero(classes == p)[0]) for p in wanted]


def _report_failures(results: dict[str, list[FoldResult]]) -> None:
    failed = {name: [r.error for r in rs if r.error] for name, rs in results.items()}
    failed = {name: errors for name, errors in failed.items() if errors}
    if not failed:
        return
    lines = [f"{name}: {len(errors)} fold(s), {errors[0]}" for name, errors in failed.items()]
    text = "These recipes failed and have no score:\n" + "\n".join(lines)
    if len(failed) == len(results):
        raise RuntimeError(text)
    warnings.warn(text, stacklevel=3)


def leak_inflation(
    recipes: Any, X: Any, y: Any, groups: Any = None, cv: int = 5, **options: Any
) -> pd.DataFrame:
    """Score the same recipes under splits by image, by near-duplicate cluster and by group.

    Parameters
    ----------
    recipes : str, list of str, estimator or dict of str to estimator
        As :func:`compare` takes them.
    X : images
        As :func:`hemaest.images.check_images` takes them.
    y : array-like of shape (n_samples,)
        Labels.
    groups : array-like of shape (n_samples,), optional
        Patients or smears; without them there is no column for groups.
    cv : int, default=5
        Number of folds.
    **options
        Passed on to :func:`compare`.

    Returns
    -------
    table : DataFrame
        One row for each recipe: balanced accuracy under each split, and ``inflation``, what the
        split by image adds over the strictest one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> X = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)
    >>> y = np.repeat(["blast", "lymphocyte"], 6)
    >>> table = leak_inflation({"chance": DummyClassifier()}, X, y, cv=2, control=False)
    >>> table.columns.tolist(), float(table["inflation"][0])
    (['recipe', 'by_image', 'by_cluster', 'inflation'], 0.0)
    """
    units = {"by_image": "image", "by_cluster": near_duplicate_groups(X)}
    if groups is not None:
        units["by_group"] = groups
    columns = {
        name: compare(recipes, X, y, unit, cv, **options).table.set_index("recipe")[
            "balanced_accuracy"
        ]
        for name, unit in units.items()
    }
    table = pd.DataFrame(columns).loc[columns["by_image"].index]
    table["inflation"] = table["by_image"] - table.iloc[:, -1]
    return table.reset_index()
