"""Small pictures on disk."""

from PIL import Image


def put(path, value=200, size=(12, 10), mode="RGB", **saving):
    """Write a picture of one color, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 150, 180)).save(path, **saving)
    return path
