"""The pictures of a comparison's page: right and wrong, what was looked at, stains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from hemaest.evaluation._covariates import STRENGTH
from hemaest.evaluation._insight import ATTENTION, GRADCAM, OUTLINE
from hemaest.evaluation._residuals import levels
from hemaest.images import ImageRef, as_array, rgb
from hemaest.report import Report

WRONG, RIGHT = 8, 4
# enough for a normalizer to learn a stain that is only looked at
LEARN_FROM = 64
COLUMNS = 8
KINDS = {
    GRADCAM: "Beside each: where its net found the evidence for its answer (Grad-CAM).",
    ATTENTION: "Beside each: from where its net gathered its answer (attention). It is not for "
    "which type.",
    OUTLINE: "Beside each: the outlines of cell and nucleus that it measured. Its features have no "
    "place of their own in the picture, so there is no map of heat.",
    "": "It sees no place in the picture, so nothing shows where it looked.",
}
NAMES = {GRADCAM: "the same under Grad-CAM", ATTENTION: "the same under attention"}


def right_and_wrong(page: Report, comparison: Any) -> None:
    """Show the best recipe's surest errors and right answers, and those of the best net."""
    recipes = gallery_recipes(comparison)
    if comparison.images_ is None or not recipes:
        return
    page.section(
        "Right and wrong",
        "The surest errors, then the surest right answer of some types, each told by the model of "
        "a fold that had not seen it. Look for wrong labels, two cells in one picture, and what "
        "the classes really share.",
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
    found = [result.insight for result in comparison.results_[recipe] if result.insight]
    return found[0].kind if found else ""


def shown_rows(comparison: Any, recipe: str) -> pd.DataFrame:
    """Return the surest errors, each image once, and the surest right answers of some types."""
    wrong = comparison.mistakes(recipe).head(WRONG)
    rows = comparison.predictions
    rows = rows[(rows["recipe"] == recipe) & (rows["true"] == rows["predicted"])]
    rows = rows.sort_values("confidence", ascending=False, kind="stable")
    return pd.concat([wrong, rows.drop_duplicates("true").head(RIGHT)], ignore_index=True)


def _gallery(page: Report, comparison: Any, recipe: str) -> None:
    images, captions, marks, beside = [], [], [], []
    for row in shown_rows(comparison, recipe).itertuples(index=False):
        item = comparison.images_[row.image]
        try:
            pixels = rgb(as_array(item))
        except (ValueError, OSError):  # the file went away since; the rest of the page stands
            continue
        right = row.true == row.predicted
        name = Path(item.path).name if isinstance(item, ImageRef) else f"image {row.image}"
        sure = f", {row.confidence:.0%} sure" if row.confidence == row.confidence else ""
        said = f"{row.predicted}" if right else f"{row.true} called {row.predicted}"
        images.append(pixels)
        captions.append(f"{said}{sure} ({name})")
        marks.append("right" if right else "wrong")
        insight = comparison.results_[recipe][row.fold].insight
        beside.append(insight.pictures.get(row.image) if insight else None)
    kind = kind_of(comparison, recipe)
    page.text(f"{recipe}. {KINDS[kind]}")
    page.gallery(
        images,
        captions,
        marks=marks,
        beside=beside,
        beside_name=NAMES.get(kind, "the same with its outlines"),
    )


def stains(page: Report, comparison: Any) -> None:
    """Show images of each stain, as they came and as the recipes' own normalizers make them."""
    if comparison.images_ is None:
        return
    rows, columns, ordered_by = _stained_columns(comparison)
    if len(rows) < 2:
        return
    originals = [rgb(as_array(comparison.images_[i])) for i in rows]
    grid = {"as they came": originals}
    for name, step in normalizers(comparison).items():
        train = comparison.design.folds[0][0]
        few = train[np.unique(np.linspace(0, len(train) - 1, LEARN_FROM).astype(int))]
        fitted = clone(step).fit(comparison.images_[few])
        grid[name] = [rgb(as_array(image)) for image in fitted.transform(comparison.images_[rows])]
    note = f"Images across the set, {ordered_by}. Colours that go with the classes are a shortcut."
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
    """Return images that span the stains, what to write above each, and in what order."""
    table, tested = comparison.factors_, comparison._tested
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
