"""Audit a set of labeled images: what would make a score worthless, before it is computed.

:func:`audit` measures every image once (``_audit_measures``) and returns an :class:`Audit` with one
row for each finding; its page is made by ``_audit_report``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._near_duplicates import Pair, search
from hemaest._progress import track
from hemaest._seeds import seed_of
from hemaest._tables import format_table
from hemaest.evaluation._audit_measures import (
    Folds,
    ImageFacts,
    PixelHistogram,
    corner_name,
    label_error_candidates,
    measure_all,
    out_of_fold,
    shortcut_scores,
    simple_models,
)
from hemaest.evaluation._audit_report import audit_report
from hemaest.groups import (
    GroupedFolds,
    Split,
    check_groups,
    check_labels,
    connect_pairs,
    group_links,
)
from hemaest.images import ImageRef, as_array, check_images

SEVERITIES = ("fault", "caution", "note")


class LeakError(ValueError):
    """Raised by :meth:`Audit.raise_if_leaky`.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.evaluation import LeakError, audit
    >>> X = np.random.default_rng(0).integers(0, 255, (4, 24, 24, 3)).astype(np.uint8)
    >>> X[3] = X[0]
    >>> try:
    ...     audit(X, ["a", "b", "b", "a"], test=[2, 3]).raise_if_leaky()
    ... except LeakError as error:
    ...     print("copies across the split" in str(error))
    True
    """


class Audit:
    """Result of :func:`audit`.

    Attributes
    ----------
    table : DataFrame
        One row for each finding: finding, severity ("fault", "caution", "note"), items, advice.
    groups_ : int array of shape (n_samples,)
        A safe grouping to split by: the given groups, joined where near-duplicates link them.
    items : dict of str to DataFrame
        The images of each finding.
    shortcuts : DataFrame
        What color, border and file facts alone score, beside chance.
    """

    def __init__(self, X: NDArray[Any], y: NDArray[Any], groups: NDArray[np.intp], n_given: int):
        self.X_, self.y_ = X, y
        self.groups_ = groups
        self.n_given_groups = n_given
        self.items: dict[str, pd.DataFrame] = {}
        self.shortcuts = pd.DataFrame()
        self.overlays_: dict[str, NDArray[np.bool_]] = {}
        self._rows: list[dict[str, Any]] = []

    def _find(self, finding: str, severity: str, items: pd.DataFrame | int, advice: str) -> None:
        count = items if isinstance(items, int) else len(items)
        if isinstance(items, pd.DataFrame):
            self.items[finding] = items
        self._rows.append(
            {"finding": finding, "severity": severity, "items": count, "advice": advice}
        )

    @property
    def table(self) -> pd.DataFrame:
        """The findings, the most severe first."""
        table = pd.DataFrame(self._rows, columns=["finding", "severity", "items", "advice"])
        order = table["severity"].map(SEVERITIES.index)
        return table.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)

    def __repr__(self) -> str:
        return f"{self.summary()}\n\n{format_table(self.table)}"

    def _repr_html_(self) -> str:
        return f"<p>{self.summary()}</p>{self.table.to_html(index=False)}"

    def summary(self) -> str:
        """Say in one line what was audited and what was found."""
        counts = self.table["severity"].value_counts()
        found = ", ".join(
            f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in SEVERITIES if s in counts
        )
        groups = len(np.unique(self.groups_))
        return (
            f"{len(self.X_)} images of {len(np.unique(self.y_))} classes in {groups} safe groups: "
            f"{found or 'nothing found'}."
        )

    def raise_if_leaky(self) -> None:
        """Raise LeakError when there is a fault: a leak across the split or conflicting labels."""
        faults = self.table[self.table["severity"] == "fault"]
        if len(faults):
            lines = [
                f"- {row.finding} ({row.items}): {row.advice}"
                for row in faults.itertuples(index=False)
            ]
            raise LeakError("These data would give a worthless score:\n" + "\n".join(lines))

    def to_html(self, path: Any = None, *, unreadable: Any = None, command: str = "") -> str:
        """Render the findings with images as one self-contained HTML file.

        Parameters
        ----------
        path : path, optional
            Where to write it; parents are made.
        unreadable : DataFrame, optional
            Files that could not be read, one row each, to list on the page.
        command : str, default=""
            Command or folder to write on the page.

        Returns
        -------
        html : str
        """
        return audit_report(self, unreadable, command).save(path)


def audit(
    X: Any,
    y: Any,
    groups: Any = None,
    test: Any = None,
    *,
    label_errors: bool = False,
    n_jobs: int | None = None,
    random_state: Any = 0,
    verbose: bool | None = None,
) -> Audit:
    """Look for leaks, conflicting labels and shortcuts, before any model is trained.

    Parameters
    ----------
    X : images
        As :func:`hemaest.images.check_images` takes them; files are read once and not kept.
    y : array-like of shape (n_samples,)
        Labels.
    groups : array-like of shape (n_samples,), optional
        Patients, smears or photographs, where they are known.
    test : array-like or Split, optional
        The test part of a given split: positions, a mask, or a :class:`hemaest.groups.Split`.
    label_errors : bool, default=False
        Also list images whose label a simple model, fitted without them, confidently contradicts.
    n_jobs : int, optional
        Threads.
    random_state : int, RandomState instance or None, default=0
        Seed of samples and folds: two audits of one set agree.
    verbose : bool, optional
        Show progress; by default only to a person at a terminal.

    Returns
    -------
    Audit
        With ``.table``, ``.groups_``, ``.items``, ``.shortcuts``, ``.to_html(path)`` and
        ``.raise_if_leaky()``.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
    >>> cells[5] = cells[0][::-1]
    >>> result = audit(cells, list("abababab"))
    >>> result.table["finding"].iloc[0]
    'conflicting labels'
    >>> result.groups_.tolist()
    [0, 1, 2, 3, 4, 0, 5, 6]
    """
    X = check_images(X, estimator="audit")
    y = check_labels(y, len(X), "audit")
    seed = random_state if isinstance(random_state, int) else seed_of(random_state)
    classes, true = np.unique(y, return_inverse=True)
    given = check_groups(groups, len(X))
    in_test = _test_mask(test, len(X))

    def bar(items: Any, words: str = "reading") -> Any:
        return track(
            items, words, total=len(items) if hasattr(items, "__len__") else len(X), show=verbose
        )

    facts, histogram = measure_all(X, true, seed, n_jobs, bar)
    good = np.array([i for i, fact in enumerate(facts) if not fact.error])
    pairs = [
        Pair(int(good[p.first]), int(good[p.second]), p.exact, p.agreement)
        for p in search(
            [facts[i].sketch for i in good],  # type: ignore[misc]
            lambda i: as_array(X[good[i]]),
            lambda items: bar(items, "comparing pairs"),
            n_jobs,
        )
    ]
    safe = connect_pairs([*pairs, *group_links(given)], len(X))
    result = Audit(X, y, safe, 0 if given is None else len(np.unique(given)))
    _unreadable(result, facts)
    _duplicates(result, pairs, y, in_test, given)
    _groups(result, given, true, classes, in_test)
    _kinds(result, facts, good, true, classes)
    _overlays(result, histogram, classes)
    _scores(result, facts, good, true, in_test, seed, label_errors)
    return result


def _test_mask(test: Any, n: int) -> NDArray[np.bool_] | None:
    if test is None:
        return None
    test = np.asarray(test.test if isinstance(test, Split) else test)
    if test.dtype == bool:
        if test.shape != (n,):
            raise ValueError(f"test is a mask of shape {test.shape}, but there are {n} images.")
        mask = test
    else:
        if test.size and not (0 <= test.min() and test.max() < n):
            raise ValueError(f"test holds positions outside 0 to {n - 1}.")
        mask = np.zeros(n, dtype=bool)
        mask[test.astype(int)] = True
    if mask.all() or not mask.any():
        raise ValueError("test must name some, but not all, of the images.")
    return mask


def name_of(X: Any, i: int) -> str:
    """Name an image: its file, or its position."""
    return X[i].path if isinstance(X[i], ImageRef) else f"image {i}"


def _unreadable(result: Audit, facts: list[ImageFacts]) -> None:
    rows = [
        {"image": i, "name": name_of(result.X_, i), "why": fact.error}
        for i, fact in enumerate(facts)
        if fact.error
    ]
    if rows:
        result._find(
            "unreadable files",
            "caution",
            pd.DataFrame(rows),
            "Remove them or copy them again; every later step would stop at them.",
        )


def _duplicates(
    result: Audit, pairs: list[Pair], y: Any, in_test: Any, given: NDArray[np.intp] | None
) -> None:
    table = pd.DataFrame(
        [
            {
                "image": p.first,
                "copy": p.second,
                "exact": p.exact,
                "agreement": p.agreement,
                "label": y[p.first],
                "label_of_copy": y[p.second],
            }
            for p in pairs
        ],
        columns=["image", "copy", "exact", "agreement", "label", "label_of_copy"],
    )
    if not len(table):
        return
    conflict = table[table["label"] != table["label_of_copy"]]
    if len(conflict):
        result._find(
            "conflicting labels",
            "fault",
            conflict.reset_index(drop=True),
            "One image cannot be two classes: correct the label or leave both out.",
        )
    if in_test is not None:
        across = table[in_test[table["image"]] != in_test[table["copy"]]]
        if len(across):
            result._find(
                "copies across the split",
                "fault",
                across.reset_index(drop=True),
                "The test part holds copies of training images: split again by joined groups.",
            )
    if given is not None:
        split_copies = table[given[table["image"]] != given[table["copy"]]]
        if len(split_copies):
            result._find(
                "copies across groups",
                "caution",
                split_copies.reset_index(drop=True),
                "Two groups hold one image, so they are not two patients: split by joined groups.",
            )
    for name, exact in (("exact duplicates", True), ("near-duplicates", False)):
        found = table[table["exact"] == exact]
        if len(found):
            result._find(
                name,
                "caution" if given is None else "note",
                found.reset_index(drop=True),
                "Keep copies together: split by groups that join them.",
            )


def _groups(result: Audit, given: Any, true: Any, classes: Any, in_test: Any) -> None:
    if given is None:
        result._find(
            "no groups",
            "caution",
            len(true),
            "No patient or smear is known: images of one patient may lie on both sides of any "
            "split. Give groups, or a rule that reads them from the file names.",
        )
        return
    if in_test is not None:
        both = np.intersect1d(given[in_test], given[~in_test])
        if len(both):
            where = np.flatnonzero(np.isin(given, both))
            result._find(
                "groups across the split",
                "fault",
                pd.DataFrame({"image": where, "group": given[where], "test": in_test[where]}),
                f"{len(both)} group(s) lie on both sides: split again by group.",
            )
    per_class = [len(np.unique(given[true == k])) for k in range(len(classes))]
    single = [str(classes[k]) for k, n in enumerate(per_class) if n == 1]
    if single:
        result._find(
            "classes of one group",
            "caution",
            pd.DataFrame({"class": single}),
            "Such a class cannot be both trained and tested on; add patients or leave it out.",
        )


def _kinds(result: Audit, facts: list[ImageFacts], good: Any, true: Any, classes: Any) -> None:
    kinds = pd.DataFrame(
        {"kind": [facts[i].kind for i in good], "class": classes[true[good]].astype(str)}
    )
    counts = pd.crosstab(kinds["kind"], kinds["class"])
    if len(counts) < 2:
        return
    of_kind, of_class = counts.div(counts.sum(axis=1), axis=0), counts / counts.sum(axis=0)
    marked = ((of_kind > 0.95) & (of_class > 0.5) & (counts >= 5)).any(axis=1)
    if marked.any():
        result._find(
            "size or format gives the class away",
            "fault",
            counts[marked].reset_index(),
            "Most images of a class, and hardly any other, are of this kind: a model may read the "
            "class from the file. Bring all images to one size and format.",
        )
    rare = counts[counts.sum(axis=1) < max(2, 0.01 * len(good))]
    if len(rare) and len(counts) < 20:
        where = good[np.isin([facts[i].kind for i in good], rare.index)]
        result._find(
            "odd size or format",
            "note",
            pd.DataFrame({"image": where, "kind": [facts[i].kind for i in where]}),
            "Few images differ from the rest in size or format: look at them.",
        )


def _overlays(result: Audit, histogram: PixelHistogram, classes: Any) -> None:
    rows = []
    for label, name in [(None, "all"), *enumerate(classes.astype(str))]:
        spots = histogram.overlay(label)
        if spots.any():
            rows.append({"class": name, "place": corner_name(spots), "pixels": int(spots.sum())})
            result.overlays_[str(name)] = spots
    if rows:
        result._find(
            "marks burned into the images",
            "caution",
            pd.DataFrame(rows),
            "A scale bar or label stands at a fixed place; crop it, or a model may use it, "
            "above all where only some classes have it.",
        )


def _folds(
    safe: NDArray[np.intp], true: NDArray[np.intp], in_test: Any, seed: int
) -> tuple[Folds, str]:
    """Return the given split, or group folds, as positions among the readable images."""
    if in_test is not None:
        return [(np.flatnonzero(~in_test), np.flatnonzero(in_test))], "the given split"
    n_groups = len(np.unique(safe))
    n_splits = min(5, n_groups)
    folds = GroupedFolds(n_splits, random_state=seed).split(None, true, safe)
    return list(folds), f"{n_splits} folds of safe groups"


def _scores(
    result: Audit,
    facts: list[ImageFacts],
    good: NDArray[np.intp],
    true: NDArray[np.intp],
    in_test: Any,
    seed: int,
    label_errors: bool,
) -> None:
    own = true[good]
    present = np.unique(own)
    if len(present) < 2 or len(np.unique(result.groups_[good])) < 2:
        return
    own = np.searchsorted(present, own)
    safe = np.unique(result.groups_[good], return_inverse=True)[1]
    folds, _ = _folds(safe, own, None if in_test is None else in_test[good], seed)
    folds = [(a, b) for a, b in folds if len(b) and len(np.unique(own[a])) > 1]
    if not folds:
        return
    features = {
        "color alone": np.array([facts[i].color for i in good]),
        "border alone": np.array([facts[i].border for i in good]),
        "file facts alone": np.array([facts[i].file for i in good]),
    }
    result.shortcuts = shortcut_scores(features, own, safe, folds, seed)
    for row in result.shortcuts.itertuples(index=False):
        score, low, chance = row[2], row[3], row[5]
        if low == low and low > chance + 0.1:
            _shortcut_finding(result, str(row[0]), float(score), float(chance))
    if label_errors:
        _label_errors(result, facts, good, own, present, safe, seed)


def _shortcut_finding(result: Audit, seen: str, score: float, chance: float) -> None:
    high = score > chance + 0.5 * (1 - chance)
    severity = {
        "color alone": "caution" if high else "note",
        "border alone": "caution",
        "file facts alone": "fault" if high else "caution",
    }[seen]
    result._find(
        f"{seen} scores {score:.2f}",
        severity,
        len(result.X_),
        f"Chance is {chance:.2f}. A model must clearly beat {score:.2f} before it can be said to "
        "use morphology.",
    )


def _label_errors(
    result: Audit, facts: list[ImageFacts], good: Any, own: Any, present: Any, safe: Any, seed: int
) -> None:
    """Fit on color and a small copy, by group, so that a copy cannot support its copy's label."""
    features = np.array([np.concatenate([facts[i].color, facts[i].raw]) for i in good])
    n_splits = min(5, len(np.unique(safe)))
    folds = list(GroupedFolds(n_splits, random_state=seed).split(None, own, safe))
    model = simple_models()["logistic"].set_params(logisticregression__C=0.1)
    index, probability = out_of_fold(model, features, own, folds, len(present))
    found = label_error_candidates(own[index], probability)
    classes = np.unique(result.y_)[present]
    table = pd.DataFrame(
        {
            "image": good[index[found["position"]]],
            "label": classes[found["given"]],
            "suggested": classes[found["suggested"]],
            "margin": found["margin"],
        }
    )
    if len(table):
        result._find(
            "label-error candidates",
            "note",
            table,
            "A simple model contradicts these labels; let an expert check them, in this order.",
        )
