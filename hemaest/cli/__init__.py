"""The ``hemaest`` command: thin, over the public API."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the application, ``hemaest.cli.app``, when it is first used."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hemaest.cli._app import app

    return app


def main() -> None:
    """Run the command line."""
    from hemaest.cli._app import app

    app()
