"""How nets learnt epoch by epoch, and what more images would bring."""

from __future__ import annotations

from typing import Any

from hemaest.evaluation._plots import ACCENT, COLORS, LINE, MARKERS, SOFT, above, new_axes


def plot_training(comparison: Any, recipe: str | None = None, ax: Any = None) -> Any:
    """Draw the loss of one recipe's net over the epochs, a line a fold."""
    table = comparison.training_curves
    if not len(table):
        raise ValueError("no recipe of this comparison holds a net, so nothing was trained.")
    recipe = table["recipe"].iloc[0] if recipe is None else recipe
    own = table[table["recipe"] == recipe]
    if not len(own):
        known = ", ".join(dict.fromkeys(table["recipe"]))
        raise ValueError(f"recipe={recipe!r} holds no net; these do: {known}.")
    ax = new_axes(ax, 4.8, 3.2)
    kinds = (
        ("train_loss", "training loss", ACCENT, "-"),
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
    above(ax, f"{recipe}, one line a fold")
    return ax


def plot_learning_curve(comparison: Any, ax: Any = None) -> Any:
    """Draw mean score and range over the folds by the mean number of training images."""
    table = comparison.learning_curve
    ax = new_axes(ax, 5.2, 3.4)
    order = [name for name in comparison.table["recipe"] if name in set(table["recipe"])]
    for i, name in enumerate(order):
        own = table[table["recipe"] == name].groupby("share")
        images, score = own["images"].mean(), own["score"]
        color = SOFT if name == comparison.design.control else COLORS[i % len(COLORS)]
        ax.fill_between(images, score.min(), score.max(), color=color, alpha=0.12, lw=0)
        ax.plot(
            images, score.mean(), color=color, marker=MARKERS[i % len(MARKERS)], ms=5, label=name
        )
    ax.set_xlabel("training images", color=SOFT, fontsize=9)
    ax.set_ylabel("balanced accuracy", color=SOFT, fontsize=9)
    ax.set_xlim(left=0)
    ax.grid(axis="y", color=LINE, lw=0.6, alpha=0.6)
    above(ax)
    return ax
