"""The HTML page of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemaest.images import ImageRef, as_array
from hemaest.report import Report

MISTAKES = 12


def comparison_report(comparison: Any) -> Report:
    """Build the page: verdict, scores, tests, classes, confusion, calibration, claim card."""
    page = Report("Comparison of recipes", lead=comparison.summary())
    _scores(page, comparison)
    _tests(page, comparison)
    _classes(page, comparison)
    if comparison.design.positive:
        names = ", ".join(str(comparison.classes_[k]) for k in comparison.design.positive)
        page.section("Two-sided view", f"Positive: {names}. All other classes are negative.")
        page.table(
            comparison.binary,
            intervals=[(n, f"{n} low", f"{n} high") for n in ("sensitivity", "specificity")],
            limits=(0, 1),
        )
    page.section("Confusion", "Rows are true classes, columns predictions; repeats are averaged.")
    for name in [n for n in comparison.table["recipe"] if n in comparison.confusion]:
        page.matrix(comparison.confusion[name], name)
    _mistakes(page, comparison)
    if comparison.table["ECE"].notna().any():
        page.section(
            "Calibration",
            "On the line, a recipe that says 90% is right 9 times in 10; below it, too sure.",
        )
        page.figure(comparison.plot_calibration().figure, alt="Reliability diagram")
    _data(page, comparison)
    _claim(page, comparison)
    return page


def verdict(comparison: Any) -> tuple[str, str]:
    """Say in one sentence which recipe is best and whether that is sure; and the tone."""
    table, design = comparison.table, comparison.design
    best = table.iloc[0]
    score = f"{best['recipe']} scores {best['balanced accuracy']:.3f} balanced accuracy"
    tests = comparison.tests
    rivals = [
        row.against
        for row in tests.itertuples(index=False)
        if row.recipe == best["recipe"] and row.verdict == "no clear difference"
    ]
    if design.control and best["recipe"] == design.control:
        return (
            f"{score}: nothing beats the control, which sees colour alone. These data do not "
            "show that any recipe reads morphology.",
            "bad",
        )
    if design.control in rivals:
        return (
            f"{score}, but is not clearly better than the control, which sees colour alone.",
            "warn",
        )
    if rivals:
        return f"{score}, not clearly better than {_and(rivals)}.", "warn"
    if len(table) == 1:
        return f"{score}. There is nothing to compare it with.", "plain"
    return f"{score} and is clearly better than every other recipe here.", "good"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _scores(page: Report, comparison: Any) -> None:
    table, design = comparison.table, comparison.design
    page.section("Scores")
    page.text(*verdict(comparison))
    best = table.iloc[0]
    tiles = [(f"{best['balanced accuracy']:.3f}", f"best: {best['recipe']}", _span(best))]
    control = table[table["recipe"] == design.control]
    if len(control) and best["recipe"] != design.control:
        row = control.iloc[0]
        tiles.append((f"{row['balanced accuracy']:.3f}", "colour alone", _span(row)))
    n_classes = len(comparison.classes_)
    tiles.append((f"{1 / n_classes:.3f}", "chance", f"{n_classes} classes"))
    page.tiles(tiles)
    shown = table.drop(columns=["acc low", "acc high"])
    shown = shown.drop(columns="note").dropna(subset=["balanced accuracy"])
    quiet = np.flatnonzero(table["recipe"] == design.control).tolist()
    page.table(
        shown,
        f"Intervals: {round(100 * design.level)}%, bootstrap over {design.unit}s. ECE: expected "
        "calibration error. Times are means of a fold and per image.",
        intervals=[("balanced accuracy", "low", "high")],
        quiet=quiet,
    )
    for row in table[table["balanced accuracy"].isna()].itertuples(index=False):
        page.text(f"{row.recipe} {row.note}", "warn")
    if table["balanced accuracy"].notna().any():
        page.figure(
            comparison.plot().figure,
            "A bar at the right joins recipes that are not clearly apart.",
            alt="Score and interval of each recipe",
        )


def _span(row: pd.Series) -> str:
    if row["low"] != row["low"]:
        return "no interval: too few groups"
    return f"{row['low']:.3f} to {row['high']:.3f}"


def _tests(page: Report, comparison: Any) -> None:
    if not len(comparison.tests):
        return
    one = len(comparison.design.folds) == 1
    note = (
        "One split only: intervals of the paired difference by bootstrap over groups; a test needs "
        "folds."
        if one
        else "Corrected resampled t-test on the same folds (Nadeau and Bengio), p-values corrected "
        "for the number of pairs (Holm)."
    )
    page.section("Differences", note)
    page.table(comparison.tests, intervals=[("difference", "low", "high")])


def _classes(page: Report, comparison: Any) -> None:
    page.section("Classes", "Sensitivity with its interval, class by class.")
    per_class = comparison.per_class
    for name in [n for n in comparison.table["recipe"] if n in comparison.confusion]:
        own = per_class[per_class["recipe"] == name].drop(columns="recipe")
        page.table(own, title=name, intervals=[("sensitivity", "low", "high")], limits=(0, 1))


def _mistakes(page: Report, comparison: Any) -> None:
    """Show what the best recipe was surest of and wrong about."""
    rows = comparison.mistakes().head(MISTAKES)
    if comparison.images_ is None or not len(rows):
        return
    page.section(
        "Surest mistakes",
        f"What {comparison.table['recipe'].iloc[0]} was surest of and wrong about: look for wrong "
        "labels, two cells in one picture, and what the classes really share.",
    )
    for row in rows.itertuples(index=False):
        item = comparison.images_[row.image]
        name = Path(item.path).name if isinstance(item, ImageRef) else f"image {row.image}"
        sure = f", {row.confidence:.0%} sure" if row.confidence == row.confidence else ""
        try:
            pixels = as_array(item)[..., :3]
        except (ValueError, OSError):  # the file went away since; the rest of the page stands
            continue
        page.gallery([pixels], [f"{row.true} called {row.predicted}{sure} ({name})"])


def _data(page: Report, comparison: Any) -> None:
    design = comparison.design
    counts = np.bincount(comparison.true_, minlength=len(comparison.classes_))
    table = pd.DataFrame({"class": comparison.classes_.astype(str), "images": counts})
    if design.groups is not None:
        table[f"{design.unit}s"] = [
            len(np.unique(design.groups[comparison.true_ == k])) for k in range(len(counts))
        ]
    page.section("Data").table(table)


def _claim(page: Report, comparison: Any) -> None:
    card = comparison.claim()
    page.section(
        "Claim card", "How these figures were got, and what a reader should hold against them."
    )
    for flag in card.flags:
        page.text(flag["text"], {"fault": "bad", "caution": "warn"}[flag["severity"]])
    if not card.flags:
        page.text("No known fault of procedure was found.", "good")
    page.table(pd.DataFrame(card.rows(), columns=["what", "how"]))
    page.code(card.to_markdown(), "The card as Markdown, to paste into a paper or a model card")
