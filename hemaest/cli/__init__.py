"""The ``hemaest`` command: thin, over the public API."""

import os


def main() -> None:
    """Run the command line."""
    # threads that wait for each other by spinning take twice the time where others work as well;
    # the libraries that have threads read this when they are loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from hemaest.cli._app import app

    app()
