"""Files that are there only when they are whole."""

import os
import subprocess
import sys

import pytest

from hemaest._files import check_writable, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = write_whole(tmp_path / "new" / "t.csv", b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError):
        write_whole(target, fail)
    assert target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == ["t.csv"]


CODE = """
import os, signal, sys
from hemaest._files import write_whole
def killed(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_whole(sys.argv[1], killed)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "t.csv"
    subprocess.run([sys.executable, "-c", CODE, str(target)])
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    write_whole(target, b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_named(tmp_path):
    target = tmp_path / "t.csv"

    def full(file):
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"x")

    with pytest.raises(OSError, match=r"t\.csv cannot be written: No space left"):
        write_whole(target, full)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("no folder")
    check_writable(tmp_path / "new" / "folder" / "t.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OSError, match="is a folder; name a file"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match="is no folder|Not a directory"):
        check_writable(tmp_path / "file" / "t.csv")
    with pytest.raises(OSError, match="name too long"):
        check_writable(tmp_path / ("x" * 300))
    longest = "x" * 255
    check_writable(tmp_path / longest)
    assert write_whole(tmp_path / longest, b"").name == longest
