"""Figures of a comparison: scores, calibration, training, learning curve, stain shift.

The methods of ``Comparison`` and ``ShiftCurves`` call these; each draws on a given axes, or on a
new figure that is pyplot's current one.
"""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np

from hemaest.evaluation import scores
from hemaest.inspection.drawing import INK, LINE, SOFT, VIOLET, plain_text, quiet_axes

# distinguishable with any kind of color vision, and by marker as well
COLORS = [VIOLET, "#d1701a", "#1b7f5c", "#2f6fbf", "#b3261e", "#7a6a00", "#0d8a9e", "#a0447a"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


def above(ax: Any, title: str | None = None) -> None:
    """Put the legend above the axes, where it hides no line."""
    longest = max(map(len, ax.get_legend_handles_labels()[1]), default=0)
    columns = 2 if longest <= 34 else 1
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns, "alignment": "left"}
    legend = ax.legend(frameon=False, fontsize=8, borderaxespad=0.3, title=title, **place)
    legend.get_title().set_fontsize(10)


def plot_scores(comparison: Any, ax: Any = None) -> Any:
    """Draw one line a recipe with its interval; bars join recipes that do not clearly differ."""
    table = comparison.table.dropna(subset=["balanced_accuracy"]).reset_index(drop=True)
    names = table["recipe"].tolist()
    ax = quiet_axes(ax, 5.8, 1.1 + 0.36 * len(names))
    for i, row in table.iterrows():
        control = row["recipe"] == comparison.design.control
        color = SOFT if control else VIOLET
        if row["low"] == row["low"]:
            ax.plot(
                [row["low"], row["high"]],
                [i, i],
                color=color,
                lw=5,
                alpha=0.3,
                solid_capstyle="round",
            )
        ax.plot(
            row["balanced_accuracy"],
            i,
            marker="o",
            ms=8,
            color=color,
            markerfacecolor="white" if control else color,
            markeredgewidth=2,
        )
    chance = 1 / len(comparison.classes)
    values = table[["low", "high", "balanced_accuracy"]].to_numpy(dtype=float)
    low, high = np.nanmin(values), np.nanmax(values)
    if chance > low - 0.5 * max(high - low, 0.05):
        ax.axvline(chance, color=LINE, lw=1.2, zorder=0)
        ax.annotate(
            "chance",
            (chance, 1),
            xycoords=("data", "axes fraction"),
            color=SOFT,
            fontsize=8,
            ha="center",
            va="bottom",
        )
        low = min(low, chance)
    span = max(high - low, 0.02)
    bars = _cliques(comparison, names)
    for k, (first, last) in enumerate(bars):
        x = high + span * (0.07 + 0.035 * k)
        ax.plot([x, x], [first - 0.18, last + 0.18], color=INK, lw=2.4, solid_capstyle="round")
    ax.set_xlim(low - 0.06 * span, high + span * (0.1 + 0.035 * max(len(bars), 1)))
    ax.set_ylim(len(names) - 0.5, -0.6)
    # a name of a sentence would leave the axes no room
    lines = [plain_text(fill(name, 36, max_lines=2, placeholder="…")) for name in names]
    ax.set_yticks(range(len(names)), lines)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=LINE, lw=0.6, alpha=0.6)
    ax.set_axisbelow(True)
    level = round(100 * comparison.design.confidence_level)
    ax.set_xlabel(
        f"balanced accuracy, {level}% interval over {comparison.design.units}",
        color=SOFT,
        fontsize=9,
    )
    return ax


def _cliques(comparison: Any, names: list[str]) -> list[tuple[int, int]]:
    """Longest runs of neighbors in rank in which no pair is clearly apart."""
    apart = {
        frozenset((row.recipe, row.against))
        for row in comparison.tests.itertuples(index=False)
        if row.verdict != "no clear difference"
    }
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and all(
            frozenset((names[j], names[last + 1])) not in apart for j in range(first, last + 1)
        ):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def plot_calibration(comparison: Any, ax: Any = None) -> Any:
    """Draw the share of right predictions against the stated probability."""
    ax = quiet_axes(ax, 4.8, 4.2)
    ax.plot([0, 1], [0, 1], color=LINE, lw=1.4, zorder=0)
    lowest = 1.0
    order = [n for n in comparison.table["recipe"] if n in comparison.out_of_fold]
    for i, name in enumerate(order):
        own = comparison.out_of_fold[name]
        true, probability = comparison.true[own.index], own.probability
        if probability is None:
            continue
        right = probability.argmax(1) == true
        mean, share, _ = scores.calibration_bins(right, probability.max(1))
        lowest = min(lowest, mean.min(), share.min())
        error = scores.calibration_error(true, probability)
        ax.plot(
            mean,
            share,
            marker=MARKERS[i % len(MARKERS)],
            ms=5,
            lw=1.5,
            color=COLORS[i % len(COLORS)],
            label=plain_text(f"{name} (ECE {error:.3f})"),
        )
    start = max(0.0, np.floor(lowest * 10) / 10 - 0.02)
    ax.set(xlim=(start, 1.02), ylim=(start, 1.02))
    ax.set_xlabel("stated probability", color=SOFT, fontsize=9)
    ax.set_ylabel("share of right predictions", color=SOFT, fontsize=9)
    if ax.get_legend_handles_labels()[1]:
        above(ax)
    return ax


def plot_training(comparison: Any, recipe: str | None = None, ax: Any = None) -> Any:
    """Draw the loss of one recipe's network over the epochs, one line a fold."""
    table = comparison.training_curves
    if not len(table):
        raise ValueError(
            "no recipe of this comparison holds a network, so there is nothing to draw."
        )
    recipe = table["recipe"].iloc[0] if recipe is None else recipe
    own = table[table["recipe"] == recipe]
    if not len(own):
        known = ", ".join(dict.fromkeys(table["recipe"]))
        raise ValueError(f"recipe={recipe!r} holds no network; these do: {known}.")
    ax = quiet_axes(ax, 4.8, 3.2)
    kinds = (
        ("train_loss", "training loss", VIOLET, "-"),
        ("valid_loss", "held out", COLORS[1], "--"),
    )
    for column, label, color, style in kinds:
        if column not in own or own[column].isna().all():
            continue
        for number, (_, fold) in enumerate(own.groupby("fold")):
            ax.plot(
                fold["epoch"],
                fold[column],
                style,
                color=color,
                lw=1.4,
                alpha=0.75,
                label=label if number == 0 else None,
            )
    ax.set_xlabel("epoch", color=SOFT, fontsize=9)
    ax.set_ylabel("loss", color=SOFT, fontsize=9)
    ax.grid(axis="y", color=LINE, lw=0.6, alpha=0.6)
    above(ax, plain_text(f"{recipe}, one line a fold"))
    return ax


def plot_learning_curve(comparison: Any, ax: Any = None) -> Any:
    """Draw mean score and range over the folds by the mean number of training images."""
    table = comparison.learning_curve
    ax = quiet_axes(ax, 5.2, 3.4)
    order = [name for name in comparison.table["recipe"] if name in set(table["recipe"])]
    for i, name in enumerate(order):
        own = table[table["recipe"] == name].groupby("share")
        images, score = own["images"].mean(), own["score"]
        color = SOFT if name == comparison.design.control else COLORS[i % len(COLORS)]
        ax.fill_between(images, score.min(), score.max(), color=color, alpha=0.12, lw=0)
        ax.plot(
            images,
            score.mean(),
            color=color,
            marker=MARKERS[i % len(MARKERS)],
            ms=5,
            label=plain_text(name),
        )
    ax.set_xlabel("training images", color=SOFT, fontsize=9)
    ax.set_ylabel("balanced accuracy", color=SOFT, fontsize=9)
    ax.set_xlim(left=0)
    ax.grid(axis="y", color=LINE, lw=0.6, alpha=0.6)
    above(ax)
    return ax


def plot_shifts(curves: Any, axes: Any = None) -> Any:
    """Draw one panel a kind of shift, one line a recipe, on one scale."""
    table = curves.table
    kinds = list(dict.fromkeys(table["kind"]))
    if axes is None:
        from matplotlib import pyplot as plt

        size = (1.2 + 2.1 * len(kinds), 2.9)
        _, axes = plt.subplots(
            1, len(kinds), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        axes = axes[0]
    recipes = list(dict.fromkeys(table["recipe"]))
    for ax, kind in zip(axes, kinds, strict=True):
        quiet_axes(ax)
        for i, recipe in enumerate(recipes):
            part = table[(table["kind"] == kind) & (table["recipe"] == recipe)]
            ax.plot(
                part["strength"],
                part["score"],
                marker=MARKERS[i % len(MARKERS)],
                ms=4,
                lw=1.6,
                color=COLORS[i % len(COLORS)],
                label=plain_text(recipe),
            )
        ax.set_title(kind, fontsize=10, color=INK, loc="left")
        ax.grid(axis="y", color=LINE, lw=0.6, alpha=0.6)
        ax.set_xlabel("strength", color=SOFT, fontsize=9)
    axes[0].set_ylabel("score", color=SOFT, fontsize=9)
    figure = axes[0].figure
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        frameon=False,
        fontsize=9,
        loc="outside upper center",
        ncols=min(len(labels), 4),
    )
    return axes
