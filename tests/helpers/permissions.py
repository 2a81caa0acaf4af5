"""Processes for which the permissions of files hold, also where the tests run as root."""

import ctypes
import os
import sys

CAPBSET_DROP = 24
OVERRIDE, READ_SEARCH = 1, 2

#: why permissions cannot be tested here, or an empty string
UNTESTABLE = (
    "permissions of folders do not hold here"
    if sys.platform == "win32" or (sys.platform != "linux" and os.geteuid() == 0)
    else ""
)


def _drop():
    prctl = ctypes.CDLL(None).prctl
    for right in (OVERRIDE, READ_SEARCH):
        if prctl(CAPBSET_DROP, right, 0, 0, 0):
            raise OSError("the right cannot be dropped")


def limited():
    """Return arguments of ``subprocess.run`` that take from root the right to pass permissions."""
    return {"preexec_fn": _drop} if os.geteuid() == 0 else {}
