"""The HTML page of a comparison: verdict, scores, where and how recipes err, claim card.

``Comparison.to_html`` calls :func:`comparison_report`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from hemaest.evaluation._audit_report import findings
from hemaest.evaluation._insight import ATTENTION, GRADCAM, OUTLINE
from hemaest.evaluation._residuals import STRENGTH, in_words, levels
from hemaest.images import ImageRef, as_array, rgb
from hemaest.report import Report

SHOWN_LEVELS = 12
WRONG, RIGHT = 8, 4
# enough for a normalizer to estimate a stain that is only looked at
FIT_ON = 64
COLUMNS = 8
KINDS = {
    GRADCAM: "Beside each: where the network found the evidence for its prediction (Grad-CAM).",
    ATTENTION: "Beside each: from where the network gathered its prediction (attention). It does "
    "not show evidence for one type.",
    OUTLINE: "Beside each: the outlines of cell and nucleus that were measured. Features of a "
    "whole cell have no place in the image, so there is no heat map.",
    "": "The recipe uses no position in the image, so there is no map of where it looks.",
}
NAMES = {GRADCAM: "the same under Grad-CAM", ATTENTION: "the same under attention"}
HEADINGS = {
    "auc": "AUC",
    "ece": "ECE",
    "mcc": "MCC",
    "f1": "F1",
    "macro_f1": "macro F1",
    "fit_s": "fit, s",
    "predict_ms": "predict, ms",
    "p_value": "p",
    "p_holm": "p, Holm",
}


def comparison_report(
    comparison: Any, audit: Any = None, unreadable: Any = None, command: str = ""
) -> Report:
    """Build the page: verdict, scores, where and how recipes err, audit, claim card."""
    recipes, images = len(comparison.recipes), len(comparison.tested)
    compared = f"{recipes} recipes" if recipes > 1 else "1 recipe"
    compared += f" on {images} images of {len(comparison.classes)} types"
    compared += f" ({_and([str(c) for c in comparison.classes[:8]])}"
    compared += ")" if len(comparison.classes) <= 8 else ", ...)"
    page = Report(
        "Comparison of recipes", lead=f"{compared}. {comparison.summary()}", command=command
    )
    _scores(page, comparison)
    _tests(page, comparison)
    _classes(page, comparison)
    if comparison.design.positive:
        names = ", ".join(str(comparison.classes[k]) for k in comparison.design.positive)
        page.section("Two-sided view", f"Positive: {names}. All other classes are negative.")
        page.table(
            comparison.binary,
            intervals=[(n, f"{n}_low", f"{n}_high") for n in ("sensitivity", "specificity")],
            limits=(0, 1),
            headings=HEADINGS,
        )
    page.section("Confusion", "Rows are true classes, columns predictions; repeats are averaged.")
    for name in [n for n in comparison.table["recipe"] if n in comparison.confusion]:
        page.matrix(comparison.confusion[name], name)
    right_and_wrong(page, comparison)
    _residuals(page, comparison)
    if comparison.table["ece"].notna().any():
        page.section(
            "Calibration",
            "On the line, predictions stated at 90% are right 9 times in 10; below it, the recipe "
            "is overconfident.",
        )
        page.figure(comparison.plot_calibration().figure, alt="Reliability diagram")
    _learning(page, comparison)
    stains(page, comparison)
    _audit(page, audit)
    _data(page, comparison, unreadable)
    _claim(page, comparison)
    return page


def verdict(comparison: Any) -> tuple[str, str]:
    """Say in one or two sentences which recipe is best and how sure that is; and the tone."""
    table, control = comparison.table, comparison.design.control
    best = table.iloc[0]
    name = best["recipe"]
    if np.isnan(best["balanced_accuracy"]):
        return "No recipe could be scored: the notes say why.", "bad"
    score = f"{name} scores {best['balanced_accuracy']:.3f} balanced accuracy"
    tests = comparison.tests
    own = tests[tests["recipe"] == name]
    unclear = own[own["verdict"] == "no clear difference"]
    if len(table) == 1:
        tail = " It is the control, which sees color alone." if name == control else ""
        return f"{score}. There is nothing to compare it with.{tail}", "plain"
    if name == control:
        return (
            f"{score}: nothing beats the control, which sees color alone. These data do not show "
            "that any recipe uses morphology.",
            "bad",
        )
    if control in unclear["against"].tolist():
        why = unclear.loc[unclear["against"] == control, "explanation"].iloc[0]
        return (
            f"{score}, but is not clearly better than the control, which sees color alone: {why}",
            "warn",
        )
    if len(unclear):
        why = unclear["explanation"].iloc[0]
        return (
            f"{score}, not clearly better than {_and(unclear['against'].tolist())}: {why}",
            "warn",
        )
    why = own["explanation"].iloc[0] if len(own) else ""
    return f"{score} and is clearly better than every other recipe here. {why}".strip(), "good"


def not_to_conclude(comparison: Any) -> list[str]:
    """Say in plain words what these scores do not show."""
    design = comparison.design
    lines = []
    units = len(np.unique(comparison.group_codes[comparison.tested]))
    if design.unit == "image":
        lines.append("that new patients would score like this (images of one lie on both sides)")
    elif not design.knows_patients:
        lines.append("that new patients would score like this (no patient is known here)")
    elif units < 30:
        lines.append(f"much from the last digits (there are only {units} {design.units})")
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
    tiles = [(f"{best['balanced_accuracy']:.3f}", f"best: {best['recipe']}", _span(best))]
    control = table[table["recipe"] == design.control]
    if len(control) and best["recipe"] != design.control:
        row = control.iloc[0]
        tiles.append((f"{row['balanced_accuracy']:.3f}", "color alone", _span(row)))
    n_classes = len(comparison.classes)
    tiles.append((f"{1 / n_classes:.3f}", "chance", f"{n_classes} classes"))
    page.tiles(tiles)
    shown = table.drop(columns=["accuracy_low", "accuracy_high", "macro_f1_low", "macro_f1_high"])
    shown = shown.drop(columns="note").dropna(subset=["balanced_accuracy"])
    quiet = np.flatnonzero(table["recipe"] == design.control).tolist()
    page.table(
        shown,
        f"Intervals: {round(100 * design.confidence_level)}%, bootstrap over {design.units}. ECE: "
        "expected calibration error. Times are means of a fold and per image.",
        intervals=[("balanced_accuracy", "low", "high")],
        quiet=quiet,
        headings=HEADINGS,
    )
    for row in table[table["balanced_accuracy"].isna()].itertuples(index=False):
        page.text(f"{row.recipe} {row.note}", "warn")
    if table["balanced_accuracy"].notna().any():
        page.figure(
            comparison.plot().figure,
            "A bar at the right joins recipes that do not clearly differ.",
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
    one = len(comparison.design.folds) == 1
    page.section(
        "Differences",
        f"Paired comparison of the predictions, with the variance over {comparison.design.units}"
        f"{'' if one else ' and over folds'}; p-values corrected for the number of pairs (Holm)."
        f"{' One split only: nothing is said of another training.' if one else ''}",
    )
    shown = comparison.tests.drop(columns="explanation")
    page.table(shown, intervals=[("difference", "low", "high")], headings=HEADINGS)
    for text in comparison.tests["explanation"].head(SHOWN_LEVELS):
        page.text(text)


def _classes(page: Report, comparison: Any) -> None:
    page.section("Classes", "Sensitivity with its interval, class by class.")
    per_class = comparison.per_class
    for name in [n for n in comparison.table["recipe"] if n in comparison.confusion]:
        own = per_class[per_class["recipe"] == name].drop(columns="recipe")
        page.table(
            own,
            title=name,
            intervals=[("sensitivity", "low", "high")],
            limits=(0, 1),
            headings=HEADINGS,
        )


def _residuals(page: Report, comparison: Any) -> None:
    """Show for which types, stains, sizes and groups the best recipe is far from the truth."""
    best, control = comparison.table["recipe"].iloc[0], comparison.design.control
    if best not in comparison.confusion:
        return
    page.section(
        "Residuals",
        f"1 - the probability that {best} gave the true type: 0 is confident and right, 1 is "
        "confident and wrong. A level that stands out says where more images, or a look at the "
        "labels, would help most.",
    )
    own = comparison.residuals(best)
    beside = {} if control in (None, best) else comparison.residuals(control)
    for name, table in own.items():
        page.text(in_words(name, table))
    for name, table in own.items():
        shown = table.head(SHOWN_LEVELS).rename(columns={"level": name})
        if name in beside:
            other = beside[name].set_index("level")["residual"]
            shown["color alone"] = other.reindex(table["level"]).to_numpy()[: len(shown)]
        more = len(table) - len(shown)
        page.table(
            shown,
            f"The {len(shown)} hardest; {more} more are in .residuals()." if more else "",
            title=f"By {name.replace('_', ' ')}",
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
    curves, measured = comparison.training_curves, bool(comparison.smaller)
    if not len(curves) and not measured:
        return
    page.section("Learning curves")
    if measured:
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
            "Loss in training, epoch by epoch. It is no test: it shows whether the network had "
            "converged when training stopped.",
            alt=_training_in_words(recipe, curves[curves["recipe"] == recipe]),
        )


def _training_in_words(recipe: str, table: pd.DataFrame) -> str:
    mean = table.groupby("epoch")["train_loss"].mean()
    return (
        f"Training loss of {recipe}: {mean.iloc[0]:.2f} after the first of {len(mean)} epochs, "
        f"{mean.iloc[-1]:.2f} after the last."
    )


def _audit(page: Report, audit: Any) -> None:
    note = "What would make a score on these images worthless, checked before any training."
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


def _data(page: Report, comparison: Any, unreadable: Any) -> None:
    design = comparison.design
    counts = np.bincount(comparison.true, minlength=len(comparison.classes))
    table = pd.DataFrame({"class": comparison.classes.astype(str), "images": counts})
    if design.groups is not None:
        table[design.units] = [
            len(np.unique(design.groups[comparison.true == k])) for k in range(len(counts))
        ]
    page.section("Data").table(table, headings={})
    if unreadable is not None and len(unreadable):
        note = f"{len(unreadable)} files could not be read and were left out"
        page.text(f"{note}{': the first 200' if len(unreadable) > 200 else ''}.", "warn")
        page.table(unreadable.head(200))


def _claim(page: Report, comparison: Any) -> None:
    card = comparison.claim()
    page.section(
        "Claim card", "How these scores were obtained, and what a reader should hold against them."
    )
    for flag in card.flags:
        page.text(flag["text"], {"fault": "bad", "caution": "warn"}[flag["severity"]])
    if not card.flags:
        page.text("No known fault of procedure was found.", "good")
    page.table(pd.DataFrame(card.rows(), columns=["what", "how"]))
    page.code(card.to_markdown(), "The card as Markdown, to paste into a paper or a model card")


def right_and_wrong(page: Report, comparison: Any) -> None:
    """Show the most confident errors and right predictions of the best recipe and network."""
    recipes = gallery_recipes(comparison)
    if comparison.images is None or not recipes:
        return
    page.section(
        "Right and wrong",
        "The most confident errors, then the most confident right prediction of some types, each "
        "by a model that was not trained on the image. Look for wrong labels, two cells in one "
        "image, and what the classes really share.",
    )
    for recipe in recipes:
        _gallery(page, comparison, recipe)


def gallery_recipes(comparison: Any) -> list[str]:
    """Return the best recipe, and the best that shows where it looks."""
    ranked = [name for name in comparison.table["recipe"] if name in comparison.confusion]
    maps = [name for name in ranked if kind_of(comparison, name) in (GRADCAM, ATTENTION)]
    return list(dict.fromkeys([*ranked[:1], *maps[:1]]))


def kind_of(comparison: Any, recipe: str) -> str:
    """Return what kind of map the folds of a recipe kept."""
    found = [result.insight for result in comparison.results[recipe] if result.insight]
    return found[0].kind if found else ""


def shown_rows(comparison: Any, recipe: str) -> pd.DataFrame:
    """Return the most confident errors, each image once, and right predictions of some types."""
    wrong = comparison.mistakes(recipe).head(WRONG)
    rows = comparison.predictions
    rows = rows[(rows["recipe"] == recipe) & (rows["true"] == rows["predicted"])]
    rows = rows.sort_values("confidence", ascending=False, kind="stable")
    return pd.concat([wrong, rows.drop_duplicates("true").head(RIGHT)], ignore_index=True)


def _gallery(page: Report, comparison: Any, recipe: str) -> None:
    images, captions, marks, beside = [], [], [], []
    for row in shown_rows(comparison, recipe).itertuples(index=False):
        item = comparison.images[row.image]
        try:
            pixels = rgb(as_array(item))
        except (ValueError, OSError):  # the file is gone; the rest of the page stands
            continue
        right = row.true == row.predicted
        name = Path(item.path).name if isinstance(item, ImageRef) else f"image {row.image}"
        confidence = f", {row.confidence:.0%}" if row.confidence == row.confidence else ""
        label = f"{row.predicted}" if right else f"{row.true} predicted as {row.predicted}"
        images.append(pixels)
        captions.append(f"{label}{confidence} ({name})")
        marks.append("right" if right else "wrong")
        insight = comparison.results[recipe][row.fold].insight
        beside.append(insight.images.get(row.image) if insight else None)
    kind = kind_of(comparison, recipe)
    page.text(f"{recipe}. {KINDS[kind]}")
    page.gallery(
        images,
        captions,
        marks=marks,
        beside=beside,
        beside_name=NAMES.get(kind, "the same with its outlines"),
        scale=("none", "the image's maximum") if kind in NAMES else None,
    )


def stains(page: Report, comparison: Any) -> None:
    """Show images of each stain: the originals, and after each normalizer of the recipes."""
    if comparison.images is None:
        return
    rows, columns, ordered_by = _stained_columns(comparison)
    if len(rows) < 2:
        return
    originals = [rgb(as_array(comparison.images[i])) for i in rows]
    grid = {"original": originals}
    for name, step in normalizers(comparison).items():
        train = comparison.design.folds[0][0]
        few = train[np.unique(np.linspace(0, len(train) - 1, FIT_ON).astype(int))]
        fitted = clone(step).fit(comparison.images[few])
        grid[name] = [rgb(as_array(image)) for image in fitted.transform(comparison.images[rows])]
    note = f"Images across the set, {ordered_by}. Colors that go with the classes are a shortcut."
    page.section("Stain", note)
    page.grid(grid, columns)
    if len(grid) == 1:
        page.text(
            "No recipe here normalizes stains; hemaest compare --stain reinhard, or "
            'make_recipe(name, stain="reinhard"), would.'
        )


def normalizers(comparison: Any) -> dict[str, Any]:
    """Return the stain normalizers of the recipes, each kind once."""
    found: dict[str, Any] = {}
    for estimator in comparison.design.estimators.values():
        for _, step in getattr(estimator, "steps", []):
            if type(step).__module__.startswith("hemaest.stain") and hasattr(step, "transform"):
                found.setdefault(type(step).__name__.removesuffix("Normalizer"), step)
    return found


def _stained_columns(comparison: Any) -> tuple[NDArray[np.intp], list[str], str]:
    """Return images that span the stains, the heading of each, and their order."""
    table, tested = comparison.factors, comparison.tested
    if "stain" in table and table["stain"].nunique() > 1:
        names = levels(table["stain"])
        each = max(1, COLUMNS // names.nunique())
        found = [
            (i, str(name))
            for name, own in names.groupby(names)
            for i in own.index[np.linspace(0, len(own) - 1, min(each, len(own))).astype(int)]
        ][:COLUMNS]
        return tested[[i for i, _ in found]], [name for _, name in found], "stain by stain"
    if STRENGTH not in table or table[STRENGTH].notna().sum() < 2:
        return np.empty(0, int), [], ""
    order = table[STRENGTH].dropna().sort_values(kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(COLUMNS, len(order))).astype(int))
    chosen = order.iloc[places]
    names = ["palest", *map(str, range(2, len(chosen))), "darkest"]
    return tested[chosen.index.to_numpy()], names, "from the palest stain to the darkest"
