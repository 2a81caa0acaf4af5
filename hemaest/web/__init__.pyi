from ._app import create_app, serve
from ._safety import Settings

__all__ = ["Settings", "create_app", "serve"]
