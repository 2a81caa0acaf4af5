"""Small images on disk."""

from PIL import Image


def write_image(path, value=200, size=(12, 10), mode="RGB", **saving):
    """Write an image of one color, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 150, 180)).save(path, **saving)
    return path
