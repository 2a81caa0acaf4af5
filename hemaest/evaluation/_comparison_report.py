"""The HTML page of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hemaest.evaluation._audit_report import findings
from hemaest.evaluation._comparison import NO_PATIENT
from hemaest.evaluation._comparison_pictures import right_and_wrong, stains
from hemaest.evaluation._residuals import in_words
from hemaest.report import Report

# a level of fewer images than this is listed, but not spoken of
SHOWN_LEVELS = 12


def comparison_report(comparison: Any, audit: Any = None) -> Report:
    """Build the page: verdict, scores, where and how recipes err, audit, claim card."""
    recipes, images = len(comparison.recipes), len(comparison._tested)
    compared = f"{recipes} recipes" if recipes > 1 else "1 recipe"
    compared += f" on {images} images of {len(comparison.classes_)} types"
    compared += f" ({_and([str(c) for c in comparison.classes_[:8]])}"
    compared += ")" if len(comparison.classes_) <= 8 else ", ...)"
    page = Report("Comparison of recipes", lead=f"{compared}. {comparison.summary()}")
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
    right_and_wrong(page, comparison)
    _residuals(page, comparison)
    if comparison.table["ECE"].notna().any():
        page.section(
            "Calibration",
            "On the line, a recipe that says 90% is right 9 times in 10; below it, too sure.",
        )
        page.figure(comparison.plot_calibration().figure, alt="Reliability diagram")
    _learning(page, comparison)
    stains(page, comparison)
    _audit(page, audit)
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


def not_to_conclude(comparison: Any) -> list[str]:
    """Say in plain words what these figures do not show."""
    design = comparison.design
    lines = []
    units = len(np.unique(comparison._codes[comparison._tested]))
    if design.unit == "image":
        lines.append("that new patients would score like this (images of one lie on both sides)")
    elif design.unit in NO_PATIENT:
        lines.append("that new patients would score like this (no patient is known here)")
    elif units < 30:
        lines.append(f"much from the last digits (there are only {units} {design.unit}s)")
    lines.append("that another laboratory's stain or scanner would score like this")
    lines.append("anything about one patient (this is research, no diagnosis)")
    return lines


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _scores(page: Report, comparison: Any) -> None:
    table, design = comparison.table, comparison.design
    page.section("Scores")
    page.text(*verdict(comparison))
    page.text(f"What not to conclude: {'; '.join(not_to_conclude(comparison))}.")
    best = table.iloc[0]
    tiles = [(f"{best['balanced accuracy']:.3f}", f"best: {best['recipe']}", _span(best))]
    control = table[table["recipe"] == design.control]
    if len(control) and best["recipe"] != design.control:
        row = control.iloc[0]
        tiles.append((f"{row['balanced accuracy']:.3f}", "colour alone", _span(row)))
    n_classes = len(comparison.classes_)
    tiles.append((f"{1 / n_classes:.3f}", "chance", f"{n_classes} classes"))
    page.tiles(tiles)
    shown = table.drop(columns=["acc low", "acc high", "F1 low", "F1 high"])
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


def _residuals(page: Report, comparison: Any) -> None:
    """Show for which types, stains, sizes and groups the best recipe is far from the truth."""
    best, control = comparison.table["recipe"].iloc[0], comparison.design.control
    if best not in comparison.confusion:
        return
    page.section(
        "Residuals",
        f"1 - the probability that {best} gave the true type: 0 is sure and right, 1 is sure and "
        "wrong. A level that stands out says where more images, or a look at the labels, would "
        "help most.",
    )
    own = comparison.residuals(best)
    beside = {} if control in (None, best) else comparison.residuals(control)
    for name, table in own.items():
        page.text(in_words(name, table))
    for name, table in own.items():
        shown = table.head(SHOWN_LEVELS).rename(columns={"level": name})
        if name in beside:
            other = beside[name].set_index("level")["residual"]
            shown["colour alone"] = other.reindex(table["level"]).to_numpy()[: len(shown)]
        more = len(table) - len(shown)
        page.table(
            shown,
            f"The {len(shown)} hardest; {more} more are in .residuals()." if more else "",
            title=f"By {name}",
            intervals=[("residual", "low", "high")],
            limits=(0, 1),
            digits=2,
        )
    if comparison.design.covariates is None:
        page.text(
            "Stain and cell size are measured without knowing the type, on up to 240 images: light "
            "absorbed where there is stain, the share of red in it (high: a bluer stain), and the "
            "area of the cell in pixels."
        )


def _learning(page: Report, comparison: Any) -> None:
    curves, asked = comparison.training_curves, bool(comparison.smaller_)
    if not len(curves) and not asked:
        return
    page.section("Learning curves")
    if asked:
        page.figure(
            comparison.plot_learning_curve().figure,
            "Score by the number of training images; shaded: lowest to highest fold. A curve that "
            "still rises at its end would gain from more images.",
            alt="Balanced accuracy of each recipe by the number of training images",
        )
    else:
        page.text(
            "Whether more images would help was not measured: hemaest compare --learning-curve, or "
            "compare(..., learning_curve=True), fits on a quarter and a half of them as well."
        )
    for recipe in dict.fromkeys(curves["recipe"]):
        page.figure(
            comparison.plot_training(recipe).figure,
            "What the net saw in training, epoch by epoch. It is no test: it shows whether the net "
            "had learnt all it could when it stopped.",
            alt=_training_in_words(recipe, curves[curves["recipe"] == recipe]),
        )


def _training_in_words(recipe: str, table: pd.DataFrame) -> str:
    mean = table.groupby("epoch")["train_loss"].mean()
    return (
        f"Training loss of {recipe}: {mean.iloc[0]:.2f} after the first of {len(mean)} epochs, "
        f"{mean.iloc[-1]:.2f} after the last."
    )


def _audit(page: Report, audit: Any) -> None:
    note = "What would make a score on these images worthless, looked for before any training."
    if audit is None:
        page.section("Audit", note).text(
            "These images were not audited: hemaest audit FOLDER, or to_html(audit=audit(X, y)).",
            "warn",
        )
        return
    page.section("Audit", f"{note} {audit.summary()}")
    findings(page, audit)
    if audit.items:
        page.text("hemaest audit FOLDER, or audit(X, y).to_html(), shows the images of each.")


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
