"""Figures of a comparison: scores with what is not clearly apart, calibration, stain shift."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np

from hemaest.evaluation import _metrics as metrics

INK, SOFT, LINE, ACCENT = "#1d2330", "#5d6675", "#d5d9e0", "#6b3fa0"
# told apart with any kind of colour vision, and by marker too
COLORS = ["#6b3fa0", "#d1701a", "#1b7f5c", "#2f6fbf", "#b3261e", "#7a6a00", "#0d8a9e", "#a0447a"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


def new_axes(ax: Any, width: float, height: float) -> Any:
    """Return `ax`, or the axes of a new figure of that many inches."""
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(width, height))
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
    ax.tick_params(colors=SOFT, labelcolor=INK, length=3)
    return ax


def above(ax: Any, title: str | None = None) -> None:
    """Put the legend above the axes, where it hides no line."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "alignment": "left"}
    legend = ax.legend(frameon=False, fontsize=8, borderaxespad=0.3, title=title, **place)
    legend.get_title().set_fontsize(10)


def plot_scores(comparison: Any, ax: Any = None) -> Any:
    """One line a recipe with its interval; bars at the right join recipes not clearly apart."""
    table = comparison.table.dropna(subset=["balanced accuracy"]).reset_index(drop=True)
    names = table["recipe"].tolist()
    ax = new_axes(ax, 5.8, 1.1 + 0.36 * len(names))
    for i, row in table.iterrows():
        control = row["recipe"] == comparison.design.control
        color = SOFT if control else ACCENT
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
            row["balanced accuracy"],
            i,
            marker="o",
            ms=8,
            color=color,
            markerfacecolor="white" if control else color,
            markeredgewidth=2,
        )
    chance = 1 / len(comparison.classes_)
    values = table[["low", "high", "balanced accuracy"]].to_numpy(dtype=float)
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
    lines = [fill(name, 36, max_lines=2, placeholder="…") for name in names]
    ax.set_yticks(range(len(names)), lines)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=LINE, lw=0.6, alpha=0.6)
    ax.set_axisbelow(True)
    level = round(100 * comparison.design.level)
    ax.set_xlabel(
        f"balanced accuracy, {level}% interval over {comparison.design.unit}s",
        color=SOFT,
        fontsize=9,
    )
    return ax


def _cliques(comparison: Any, names: list[str]) -> list[tuple[int, int]]:
    """Longest runs of neighbours in rank in which no pair is clearly apart."""
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
    """How often each recipe is right against how sure it is."""
    ax = new_axes(ax, 4.8, 4.2)
    ax.plot([0, 1], [0, 1], color=LINE, lw=1.4, zorder=0)
    lowest = 1.0
    order = [n for n in comparison.table["recipe"] if n in comparison._pooled]
    for i, name in enumerate(order):
        index, _, probability = comparison._pooled[name]
        if probability is None:
            continue
        right = probability.argmax(1) == comparison.true_[index]
        mean, share, _ = metrics.calibration_bins(right, probability.max(1))
        lowest = min(lowest, mean.min(), share.min())
        error = metrics.calibration_error(comparison.true_[index], probability)
        ax.plot(
            mean,
            share,
            marker=MARKERS[i % len(MARKERS)],
            ms=5,
            lw=1.5,
            color=COLORS[i % len(COLORS)],
            label=f"{name} (ECE {error:.3f})",
        )
    start = max(0.0, np.floor(lowest * 10) / 10 - 0.02)
    ax.set(xlim=(start, 1.02), ylim=(start, 1.02))
    ax.set_xlabel("says it is this sure", color=SOFT, fontsize=9)
    ax.set_ylabel("is right this often", color=SOFT, fontsize=9)
    if ax.get_legend_handles_labels()[1]:
        above(ax)
    return ax


def plot_shifts(curves: Any, axes: Any = None) -> Any:
    """One panel a kind of shift, one line a recipe, on one scale."""
    table = curves.table
    kinds = list(dict.fromkeys(table["kind"]))
    if axes is None:
        from matplotlib import pyplot as plt

        _, axes = plt.subplots(
            1, len(kinds), figsize=(1.2 + 2.1 * len(kinds), 2.9), sharey=True, squeeze=False
        )
        axes = axes[0]
    recipes = list(dict.fromkeys(table["recipe"]))
    for ax, kind in zip(axes, kinds, strict=True):
        new_axes(ax, 0, 0)
        for i, recipe in enumerate(recipes):
            part = table[(table["kind"] == kind) & (table["recipe"] == recipe)]
            ax.plot(
                part["strength"],
                part["score"],
                marker=MARKERS[i % len(MARKERS)],
                ms=4,
                lw=1.6,
                color=COLORS[i % len(COLORS)],
                label=recipe,
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
        loc="lower center",
        ncols=min(len(labels), 4),
        bbox_to_anchor=(0.5, 1.0),
    )
    figure.tight_layout()
    return axes
