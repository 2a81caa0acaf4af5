"""The ``hemaest`` command: thin, over the public API."""


def main() -> None:
    """Run the command line."""
    from hemaest.cli._app import app

    app()
