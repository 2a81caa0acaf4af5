"""Progress is shown to a person at a terminal and to nobody else."""

import os
import pty
import subprocess
import sys

from hemaest._progress import track


def test_progress_is_silent_when_nobody_watches(capsys):
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_shows_on_a_terminal():
    ours, theirs = pty.openpty()
    code = "from hemaest._progress import track; print(list(track('ab', 'reading cells', total=2)))"
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, check=True
    )
    screen = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert done.stdout == b"['a', 'b']\n"
    assert "reading cells" in screen and "2/2" in screen
