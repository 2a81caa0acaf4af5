"""The learning curve as a table and as a picture."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    "valid_loss": "valid_loss",
    "valid_balanced_accuracy": "valid_balanced_accuracy",
    "valid_best": "best",
    "lr": "lr",
    "images_per_second": "images_per_second",
    "dur": "seconds",
}


def history_frame(history: Any) -> "pd.DataFrame":
    """Return one row for each epoch; columns that are absent throughout are left out."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("history_ is a DataFrame: install pandas.") from error
    known = [name for name in COLUMNS if any(name in row for row in history)]
    rows = [[row.get(name) for name in known] for row in history]
    return pd.DataFrame(rows, columns=[COLUMNS[name] for name in known])


def plot_history(table: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """Draw the losses, and the validation score on a second axis where there is one."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.plot(table["epoch"], table["train_loss"], color="C0", label="training loss")
    if "valid_loss" in table:
        ax.plot(table["epoch"], table["valid_loss"], color="C1", label="validation loss")
        best = table[table["best"].astype(bool)]
        if len(best):
            ax.axvline(best["epoch"].iloc[-1], color="0.7", lw=1, ls="--", label="best epoch")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.spines[["top", "right"]].set_visible(False)
    lines, labels = ax.get_legend_handles_labels()
    if "valid_balanced_accuracy" in table:
        right = ax.twinx()
        right.plot(table["epoch"], table["valid_balanced_accuracy"], color="C2", ls=":")
        right.set_ylabel("validation balanced accuracy", color="C2")
        right.set_ylim(0, 1.02)
        right.spines["top"].set_visible(False)
        lines.append(right.lines[0])
        labels.append("validation score")
    ax.legend(lines, labels, frameon=False)
    return ax
