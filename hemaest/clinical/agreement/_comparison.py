"""Compare two methods over smears, type by type, and write it as one page.

``hemaest agree`` calls :func:`read_counts` and :func:`compare_methods`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hemaest._words import some
from hemaest.clinical.agreement._differences import bland_altman, flags, reference_limits
from hemaest.clinical.agreement._displays import BlandAltmanDisplay, MethodComparisonDisplay
from hemaest.clinical.agreement._lines import Line, deming, paired, passing_bablok
from hemaest.report import Report

# percentages from which on laboratories look again
CUTS = {"blast": 1.0, "immature granulocyte": 2.0}


def read_counts(path: str | os.PathLike[str]) -> pd.DataFrame:
    r"""Read a table of differentials from a CSV file as percentages.

    Parameters
    ----------
    path : path
        Wide: a column ``smear`` (or the first one) and one for each type, percentages or counts.
        Or long: columns ``smear``, ``type``, and ``percent`` or ``n``. Or one row a cell: columns
        ``smear`` and ``label`` (or ``type``).

    Returns
    -------
    percent : DataFrame
        One row a smear, one column a type; rows sum to 100. Its ``attrs["n_cells"]`` is the mean
        number of cells a smear, where the file holds counts.

    Examples
    --------
    >>> import io
    >>> table = read_counts(io.StringIO("smear,lymphocyte,monocyte\na,30,10\nb,20,20\n"))
    >>> table.loc["a"].tolist(), table.attrs["n_cells"]
    ([75.0, 25.0], 40.0)
    """
    table = pd.read_csv(path)
    if not len(table):
        raise ValueError(f"{path} holds no smear.")
    names = {str(c).strip().lower(): c for c in table.columns}
    smear = names.get("smear", table.columns[0])
    kind = names.get("type", names.get("label"))
    if kind is not None:
        value = names.get("n", names.get("count", names.get("percent")))
        if value is None:
            wide = pd.crosstab(table[smear], table[kind])
        else:
            wide = table.pivot_table(
                index=smear, columns=kind, values=value, aggfunc="sum", fill_value=0
            )
    else:
        wide = table.set_index(smear)
        words = [c for c in wide.columns if not pd.api.types.is_numeric_dtype(wide[c])]
        if words:
            raise ValueError(
                f"{path}: columns {some(words)} are no numbers. Give a column for each type, or "
                "the columns smear, type and percent (or n)."
            )
    wide = wide.astype(float)
    wide.index, wide.index.name, wide.columns.name = wide.index.astype(str), "smear", None
    if wide.index.has_duplicates:
        twice = wide.index[wide.index.duplicated()].unique().tolist()
        raise ValueError(f"{path}: the smears {some(twice)} have several rows.")
    if (wide < 0).any(axis=None):
        raise ValueError(f"{path}: there are numbers below 0.")
    total = wide.sum(axis=1)
    whole = (wide.fillna(0) % 1 == 0).all(axis=None) and not np.allclose(total, 100)
    percent = wide.div(total.where(total > 0), axis=0) * 100
    if whole or (kind is not None and value is None):
        percent.attrs["n_cells"] = float(total.mean())
    return percent


@dataclass(frozen=True)
class Agreement:
    """Two methods over the same smears; made by :func:`compare_methods`.

    Examples
    --------
    >>> reference = pd.DataFrame({"blast": [0.0, 2, 5, 9], "lymphocyte": [100.0, 98, 95, 91]})
    >>> result = compare_methods(reference, reference + [1.0, -1.0], n_draws=50)
    >>> result.table.set_index("type")["bias"].round(6).to_dict()
    {'blast': 1.0, 'lymphocyte': -1.0}
    """

    reference: pd.DataFrame
    test: pd.DataFrame
    table: pd.DataFrame
    decisions: pd.DataFrame
    flags: pd.DataFrame
    lines: dict[str, Line]
    n_cells: float | None
    after: Agreement | None = None

    def plot(
        self, kind: str, ax: Any = None, *, title: str | None = None
    ) -> MethodComparisonDisplay:
        """Draw both methods against each other for one type.

        Parameters
        ----------
        kind : str
            The cell type.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        title : str, optional
            By default the cell type.

        Returns
        -------
        display : MethodComparisonDisplay
        """
        return MethodComparisonDisplay(
            self.reference[kind],
            self.test[kind],
            self.lines[kind],
            n_cells=self.n_cells,
        ).plot(ax, title=str(kind) if title is None else title)

    def to_html(self, path: Any = None, *, title: str = "Agreement of two methods") -> str:
        """Write one page that needs no other file.

        Parameters
        ----------
        path : path, optional
            Where to write; None only returns the page.
        title : str, default="Agreement of two methods"
            Its heading.

        Returns
        -------
        html : str
        """
        from matplotlib.figure import Figure

        n = len(self.reference)
        cells = f" of {self.n_cells:g} cells each" if self.n_cells else ""
        page = Report(
            title,
            f"{n} smears counted by both methods; reference counts{cells}. Percentages; intervals "
            "are bootstrap over smears.",
        )
        parts = [("", self)] if self.after is None else [("Before review", self)]
        if self.after is not None:
            parts.append(("After review", self.after))
        for name, part in parts:
            page.section(name or "Results")
            part._write(page)
        page.section("Figures")
        for name, part in parts:
            for kind in part.table["type"]:
                if not np.isfinite(part.lines[kind].slope):
                    continue
                words = f"{kind}, {name.lower()}" if name else str(kind)
                figure = Figure(figsize=(9.2, 4.2), layout="constrained")
                axes = figure.subplots(1, 2)
                part.plot(kind, axes[0], title=words)
                BlandAltmanDisplay(part.reference[kind], part.test[kind]).plot(axes[1])
                page.figure(figure, f"{words}: both methods, and their difference")
        return page.save(path)

    def _write(self, page: Report) -> None:
        page.table(
            self.table.drop(columns=["deming_slope", "deming_intercept"]),
            "Slope and intercept by Passing and Bablok; bias is test less reference, in points. "
            "'within chance' is the share of smears whose test lies within Ruemke's limits of the "
            "reference count.",
            title="Type by type",
            intervals=[
                ("slope", "slope_low", "slope_high"),
                ("bias", "bias_low", "bias_high"),
            ],
            digits=2,
        )
        if len(self.decisions):
            page.table(
                self.decisions,
                "Bias where something is decided.",
                title="At decision points",
                intervals=[("bias", "low", "high")],
                digits=2,
            )
        if len(self.flags):
            page.table(
                self.flags,
                title="Smears flagged",
                intervals=[
                    ("sensitivity", "sensitivity_low", "sensitivity_high"),
                    ("specificity", "specificity_low", "specificity_high"),
                ],
                limits=(0.0, 1.0),
                digits=2,
            )


def compare_methods(
    reference: pd.DataFrame,
    test: pd.DataFrame,
    *,
    after: pd.DataFrame | None = None,
    n_cells: float | None = None,
    decisions: Mapping[str, Sequence[float]] | None = None,
    cuts: Mapping[str, float] | None = None,
    error_ratio: float = 1.0,
    confidence_level: float = 0.95,
    n_draws: int = 1999,
    random_state: Any = 0,
) -> Agreement:
    """Compare two ways to count the same smears, as CLSI guidelines have it.

    Parameters
    ----------
    reference, test : DataFrame
        Percentages, one row a smear (index: its name), one column a type. Types that one of them
        lacks count as 0 there.
    after : DataFrame, optional
        The test method after review by a person; compared as well.
    n_cells : float, optional
        Cells of each reference count, for Ruemke's limits.
    decisions : mapping of str to sequence of float, optional
        Percentages of the reference at which something is decided, by type.
    cuts : mapping of str to float, optional
        Percentages from which on a smear is flagged; by default 1 for "blast" and 2 for
        "immature granulocyte", where they are columns.
    error_ratio : float, default=1.0
        For Deming's line, see :func:`deming`.
    confidence_level : float, default=0.95
        Level of all intervals.
    n_draws : int, default=1999
        Number of bootstrap draws of smears.
    random_state : int, RandomState instance or None, default=0
        Seed.

    Returns
    -------
    agreement : Agreement
        ``.table`` (one row a type), ``.decisions``, ``.flags``, ``.plot(type)``,
        ``.to_html(path)``, ``.after``.

    Examples
    --------
    >>> reference = pd.DataFrame({"a": [10.0, 20, 30, 40], "b": [90.0, 80, 70, 60]})
    >>> result = compare_methods(reference, reference, n_cells=100, n_draws=50)
    >>> result.table[["type", "slope", "within_chance"]].values.tolist()
    [['a', 1.0, 1.0], ['b', 1.0, 1.0]]
    """
    reference, test = _aligned(reference, test)
    wanted = dict(decisions or {})
    chosen = {k: v for k, v in CUTS.items() if k in reference} if cuts is None else dict(cuts)
    if unknown := sorted((set(wanted) | set(chosen)) - set(map(str, reference.columns))):
        raise ValueError(f"{some(unknown)} is no type among {list(reference.columns)}.")
    rows, at_points, lines = [], [], {}
    for kind in reference.columns:
        x, y = paired(reference[kind], test[kind])
        options = {
            "confidence_level": confidence_level,
            "n_draws": n_draws,
            "random_state": random_state,
        }
        line = passing_bablok(x, y, **options)
        other = deming(x, y, error_ratio=error_ratio, confidence_level=confidence_level, n_draws=0)
        lines[kind] = line
        difference = bland_altman(x, y, confidence_level=confidence_level)
        rows.append(
            {
                "type": kind,
                "smears": len(x),
                "mean": float(x.mean()) if len(x) else float("nan"),
                "slope": line.slope,
                "slope_low": line.slope_low,
                "slope_high": line.slope_high,
                "intercept": line.intercept,
                "bias": difference.bias,
                "bias_low": difference.bias_low,
                "bias_high": difference.bias_high,
                "limit_low": difference.low,
                "limit_high": difference.high,
                "deming_slope": other.slope,
                "deming_intercept": other.intercept,
                "within_chance": _within_chance(x, y, n_cells, confidence_level),
            }
        )
        if kind in wanted:
            table = line.bias(wanted[kind])
            table.insert(0, "type", kind)
            at_points.append(table)
    found = pd.concat(at_points, ignore_index=True) if at_points else pd.DataFrame()
    flagged = (
        flags(reference, test, chosen, confidence_level=confidence_level)
        if chosen
        else pd.DataFrame()
    )
    reviewed = None
    if after is not None:
        reviewed = compare_methods(
            reference,
            after,
            n_cells=n_cells,
            decisions=wanted,
            cuts=chosen,
            error_ratio=error_ratio,
            confidence_level=confidence_level,
            n_draws=n_draws,
            random_state=random_state,
        )
    return Agreement(reference, test, pd.DataFrame(rows), found, flagged, lines, n_cells, reviewed)


def _within_chance(x: Any, y: Any, n_cells: float | None, confidence_level: float) -> float:
    if n_cells is None or not len(x):
        return float("nan")
    low, high = reference_limits(x.clip(0, 100), n_cells, confidence_level=confidence_level).T
    return float(((low <= y) & (y <= high)).mean())


def _aligned(reference: Any, test: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with the same smears and the same types."""
    a, b = pd.DataFrame(reference), pd.DataFrame(test)
    both = a.index.intersection(b.index, sort=False)
    if not len(both):
        raise ValueError(
            f"no smear is in both tables: the reference has {some(a.index.tolist())}, the test "
            f"{some(b.index.tolist())}. Their names must be equal."
        )
    types = list(dict.fromkeys([*a.columns, *b.columns]))
    return (
        a.reindex(index=both, columns=types, fill_value=0.0).astype(float),
        b.reindex(index=both, columns=types, fill_value=0.0).astype(float),
    )
