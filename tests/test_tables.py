"""Tables as text."""

import pandas as pd

from hemaest._tables import format_table


def test_tables_line_up():
    table = pd.DataFrame({"name": ["a", "long name"], "n": [12345.6, 0.12345], "x": [None, 1]})
    lines = format_table(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "12,346" in lines[2] and "0.123" in lines[3] and "-" in lines[2]
