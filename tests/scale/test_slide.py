"""Slides: any part at any reduction equals the same part of the pixels; they travel as names."""

import pickle

import numpy as np
import pytest
import tifffile
from dicom_slide import write_dicom

from hemaest.scale import Slide


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 250, (40, 53, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))  # 640 x 848


def halves(pixels, times):
    levels = [pixels]
    for _ in range(times):
        a = levels[-1].astype(np.uint16)
        levels.append(
            ((a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2] + 2) // 4).astype(np.uint8)
        )
    return levels


@pytest.fixture(params=["pyramid", "ome", "flat", "dicom"])
def path(request, pixels, tmp_path):
    if request.param == "dicom":
        return write_dicom(tmp_path, halves(pixels, 2), um_per_pixel=0.25, tile=128)
    path = tmp_path / ("slide.ome.tif" if request.param == "ome" else "slide.tif")
    how = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate"}
    levels = halves(pixels, 0 if request.param == "flat" else 2)
    with tifffile.TiffWriter(path, ome=request.param == "ome") as file:
        if request.param == "ome":
            meta = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"}
            file.write(levels[0], subifds=len(levels) - 1, metadata=meta, **how)
            for level in levels[1:]:
                file.write(level, subfiletype=1, **how)
        else:
            resolution = (40_000, 40_000)  # pixels a centimeter: 0.25 micrometers a pixel
            for i, level in enumerate(levels):
                file.write(
                    level, resolution=tuple(r / 2**i for r in resolution), subfiletype=int(i > 0),
                    resolutionunit="CENTIMETER", metadata=None, **how,
                )  # fmt: skip
    return path


def test_any_part_is_that_of_the_pixels(path, pixels):
    rng = np.random.default_rng(1)
    with Slide(path) as slide:
        assert slide.size == (848, 640)
        for _ in range(20):
            w, h = rng.integers(1, 300, 2)
            x, y = rng.integers(0, 848 - w), rng.integers(0, 640 - h)
            np.testing.assert_array_equal(slide.read(x, y, w, h), pixels[y : y + h, x : x + w])


@pytest.mark.parametrize("downsample", [2.0, 4.0])
def test_a_reduced_part_is_the_mean_of_the_pixels(path, pixels, downsample):
    n = int(downsample)
    part = pixels[64:320, 128:512].astype(float)
    mean = part.reshape(256 // n, n, 384 // n, n, 3).mean((1, 3))
    with Slide(path) as slide:
        small = slide.read(128, 64, 384, 256, downsample=downsample)
    assert small.shape == mean.shape
    assert np.abs(small - mean).max() <= 2


def test_outside_is_white(path, pixels):
    with Slide(path) as slide:
        image = slide.read(-10, -20, 40, 40)
        assert (image[:20] == 255).all() and (image[:, :10] == 255).all()
        np.testing.assert_array_equal(image[20:, 10:], pixels[:20, :30])
        assert (slide.read(5000, 5000, 30, 30) == 255).all()


def test_a_slide_travels_as_its_name(path, pixels):
    slide = Slide(path, um_per_pixel=0.5)
    slide.read(0, 0, 10, 10)
    other = pickle.loads(pickle.dumps(slide))
    assert other.um_per_pixel == 0.5 and other.scale_source == "given"
    np.testing.assert_array_equal(other.read(3, 4, 9, 8), pixels[4:12, 3:12])
    slide.close()
    other.close()


def test_the_scale_of_the_file_is_read(path):
    with Slide(path) as slide:
        assert slide.scale_source == "file"
        assert slide.um_per_pixel == pytest.approx(0.25, rel=1e-3)


def test_a_scale_that_nobody_knows(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "s.tif", pixels, tile=(128, 128), photometric="rgb")
    with Slide(tmp_path / "s.tif") as slide:
        assert slide.um_per_pixel is None and slide.scale_source == "unknown"


def test_what_is_no_slide_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no slide .*gone\.svs"):
        Slide(tmp_path / "gone.svs").thumbnail()
    (tmp_path / "text.tif").write_text("no slide")
    with pytest.raises(ValueError, match="cannot be opened as a slide"):
        Slide(tmp_path / "text.tif").thumbnail()
    with pytest.raises(ValueError, match="um_per_pixel is 500"):
        Slide(tmp_path / "text.tif", um_per_pixel=500)
    tifffile.imwrite(
        tmp_path / "g.tif", np.zeros((300, 300, 3), np.uint8), tile=(64, 64), photometric="rgb"
    )
    with Slide(tmp_path / "g.tif") as slide, pytest.raises(ValueError, match="must be at least 1"):
        slide.read(0, 0, 0, 5)
