"""The one table printer, for benchmarks, reports and the command line."""

from typing import Any

import pandas as pd


def format_cell(value: Any, digits: int = 3) -> str:
    """Return one cell as a person would write it: rounded, and a dash for what is missing."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"
    return str(value)


def format_table(table: pd.DataFrame, digits: int = 3) -> str:
    """Return a table as GitHub Markdown that also reads well in a terminal.

    Parameters
    ----------
    table : DataFrame
        The index is not printed; reset it where it says something.
    digits : int, default=3
        Decimals of floats.

    Examples
    --------
    >>> print(format_table(pd.DataFrame({"recipe": ["a", "bb"], "score": [0.5, float("nan")]})))
    | recipe | score |
    |--------|------:|
    | a      | 0.500 |
    | bb     |     - |
    """
    cells = [[format_cell(v, digits) for v in row] for row in table.itertuples(index=False)]
    names = [str(c) for c in table.columns]
    numeric = [pd.api.types.is_numeric_dtype(table[c]) for c in table.columns]
    widths = [max(3, *(len(row[j]) for row in [names, *cells])) for j in range(len(names))]

    def line(row: list[str]) -> str:
        parts = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        return "| " + " | ".join(parts) + " |"

    rule = "|".join(
        "-" * (w + 1) + ":" if right else "-" * (w + 2)
        for w, right in zip(widths, numeric, strict=True)
    )
    return "\n".join([line(names), f"|{rule}|", *map(line, cells)])
