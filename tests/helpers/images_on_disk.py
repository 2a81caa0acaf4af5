"""Small images on disk."""

from PIL import Image

from hemaest.images import ImageRef, check_images


def write_image(path, value=200, size=(12, 10), mode="RGB", **saving):
    """Write an image of one color, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 150, 180)).save(path, **saving)
    return path


COMMON = {"images", "target", "class_names", "groups", "group_source", "filenames", "DESCR"}


def assert_common(bunch):
    """Check what every loader of single images returns."""
    assert set(bunch) >= COMMON
    n = len(bunch.images)
    assert n == len(bunch.target) == len(bunch.groups) == len(bunch.filenames)
    assert all(isinstance(item, ImageRef) for item in bunch.images)
    check_images(bunch.images)
    assert set(bunch.target.tolist()) - {""} <= set(bunch.class_names)
    assert bunch.DESCR.strip() == bunch.DESCR
