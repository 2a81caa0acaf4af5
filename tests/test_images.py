"""The gate and the reading of files, with files that are broken in real ways."""

import pickle
import struct
import zlib

import joblib
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from hemaest.images import (
    ImageRef,
    as_array,
    check_images,
    iter_arrays,
    pack,
    read_image,
    to_object_array,
)


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)


# the gate


def test_dense_input_passes_through_untouched(image):
    X = np.stack([image, image])
    assert check_images(X) is X


def test_lists_become_object_arrays_even_when_sizes_match(image):
    X = check_images([image, image])
    assert X.dtype == object and X.shape == (2,)
    assert X[0] is image


def test_paths_become_references(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.png")
    X = check_images([str(tmp_path / "a.png"), tmp_path / "a.png"])
    assert X[0] == X[1] == ImageRef(tmp_path / "a.png")


def test_paths_become_references_in_whatever_holds_them(tmp_path, image):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    expected = [ImageRef(path)] * 2
    for paths in ([str(path)] * 2, [path] * 2, [str(path), ImageRef(path)]):
        given = to_object_array(paths)
        assert check_images(given).tolist() == expected
        assert given.tolist() == paths  # the input is not changed
        assert check_images(pd.Series(paths)).tolist() == expected
    assert check_images(np.array([str(path)] * 2)).tolist() == expected
    assert check_images(np.array([str(path)] * 2, dtype=np.dtypes.StringDType())).shape == (2,)
    with pytest.raises(ValueError, match=r"array of paths of shape \(1, 2\); it must be 1-D"):
        check_images(np.array([[str(path)] * 2]))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check_images(np.array(["nowhere.png"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float32), r"float32; images are uint8"),
        (lambda x: x / 255.0, r"multiply by 255"),
        (lambda x: np.full(x.shape, np.nan), r"contains NaN"),
        (lambda x: x.astype(np.int64), r"int64"),
        (lambda x: x[0], r"shape \(12, 9, 3\).*image\[None\]"),
        (lambda x: x[..., :1], r"gray \(1 channel\)"),
        (lambda x: x[..., :2], r"2 channels; allowed are 3 .* and 4"),
        (lambda x: x[:, :1, :1], r"1 x 1; at least 2 pixels"),
        (lambda x: x[:0], r"no image"),
    ],
)
def test_dense_input_that_is_no_image(image, change, message):
    with pytest.raises(ValueError, match=message):
        check_images(change(np.stack([image, image])))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"image 1 has shape \(4, 4\) \(gray"),
        (np.zeros((4, 4, 3)), r"image 1 is float64"),
        (np.zeros((4, 0, 3), np.uint8), r"image 1 is 4 x 0"),
        (np.zeros((4, 4, 4), np.uint8), r"image 0 has 3 channels and image 1 has 4"),
    ],
)
def test_a_bad_item_is_named(image, item, message):
    with pytest.raises(ValueError, match=message):
        check_images([image, item])


@pytest.mark.parametrize("X", ["folder", 3, None, ImageRef])
def test_what_is_no_set_of_images(X):
    with pytest.raises(TypeError, match="images come as"):
        check_images(X)
    with pytest.raises(TypeError, match=r"image 0 is int"):
        check_images([3])


def with_fourth(image, channel):
    return np.dstack([image, channel])[None]


def test_alpha_is_distinguished_from_a_cell_map(image, rng):
    height, width = image.shape[:2]
    ramp = np.broadcast_to(np.linspace(3, 200, width).astype(np.uint8), (height, width))
    noise = rng.integers(0, 255, (height, width)).astype(np.uint8)
    opaque = np.full((height, width), 255, np.uint8)
    half = np.full((height, width), 128, np.uint8)
    for channel in (ramp, noise, opaque, half):
        with pytest.raises(ValueError, match="image 0: the fourth channel looks like alpha"):
            check_images(with_fourth(image, channel))
    labels = np.zeros((height, width), np.uint8)
    labels[2:6, 2:6], labels[3:5, 3:5] = 1, 2
    labels[8:11, 2:6], labels[9, 3:5] = 253, 254
    for channel in (labels, labels * 0, np.ones_like(labels)):
        assert check_images(with_fourth(image, channel)).shape == (1, height, width, 4)


def test_a_missing_map_names_the_segmenter(image):
    with pytest.raises(ValueError, match="CellSegmenter"):
        check_images(image[None], channels="map")
    with pytest.raises(ValueError, match="only RGB"):
        check_images(with_fourth(image, image[..., 0] * 0), channels="rgb")


def test_errors_name_the_estimator(image):
    with pytest.raises(ValueError, match=r"^Resize: image 0 is float64"):
        check_images([image / 255.0], estimator="Resize")


def test_pack_is_dense_only_where_sizes_allow(image):
    assert pack([image, image], dense=True).shape == (2, 12, 9, 3)
    assert pack([image, image], dense=False).shape == (2,)
    assert pack([image, image[:5]], dense=True).shape == (2,)


# references


def test_a_reference_reads_hashes_and_notices_a_change(tmp_path, image):
    path = tmp_path / "cell.png"
    Image.fromarray(image).save(path)
    ref = ImageRef(path)
    np.testing.assert_array_equal(ref.read(), image)
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert joblib.hash(ref) == joblib.hash(ImageRef(path))
    Image.fromarray(image[:6]).save(path)
    assert joblib.hash(ref) != joblib.hash(ImageRef(path))
    with pytest.raises(ValueError, match=r"cell\.png was changed"):
        ref.read()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"cell\.png"):
        ImageRef(path)


def test_iter_arrays_reads_references(as_refs, cells):
    X = cells[0][:3]
    np.testing.assert_array_equal(np.stack(list(iter_arrays(as_refs(X)))), X)
    assert as_array(X[0]) is not None


# reading


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_lossless_files_come_back_as_they_are(tmp_path, image, ending):
    path = tmp_path / f"cell.{ending}"
    Image.fromarray(image).save(path, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), image)


def test_jpeg(tmp_path):
    path = tmp_path / "cell.JPG"
    Image.new("RGB", (20, 10), (200, 100, 50)).save(path, "JPEG", quality=95)
    assert np.abs(read_image(path).astype(int) - (200, 100, 50)).max() <= 3


def test_exif_is_turned_upright(tmp_path, image):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for ending in ("png", "tif"):
            path = tmp_path / f"{orientation}.{ending}"
            options = {"tiffinfo": {274: orientation}} if ending == "tif" else {"exif": exif}
            Image.fromarray(image).save(path, **options)
            expected = {
                1: image,
                2: image[:, ::-1],
                3: image[::-1, ::-1],
                4: image[::-1],
                5: image.transpose(1, 0, 2),
                6: np.rot90(image, -1),
                7: image[::-1, ::-1].transpose(1, 0, 2),
                8: np.rot90(image),
            }[orientation]
            np.testing.assert_array_equal(read_image(path), expected, err_msg=f"{path}")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_tiff_is_scaled_over_the_full_range(tmp_path, image, planar):
    path = tmp_path / "deep.tiff"
    deep = image.astype(np.uint16) * 257
    stored = np.moveaxis(deep, -1, 0) if planar == "separate" else deep
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_alpha_is_dropped_and_clear_pixels_become_white(tmp_path, image, ending):
    alpha = np.full(image.shape[:2], 130, np.uint8)
    alpha[0, 0] = 0
    path = tmp_path / f"cell.{ending}"
    Image.fromarray(np.dstack([image, alpha])).save(path)
    expected = image.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_image(path), expected)


def test_palettes_and_print_colors_are_read(tmp_path, image):
    Image.fromarray(image // 128 * 200).quantize(8).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), image // 128 * 200)
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    assert read_image(tmp_path / "print.jpg").shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["LAB", "YCbCr", "CMYK"])
def test_colors_that_a_tiff_stores_otherwise_come_back_as_rgb(tmp_path, mode):
    blue = Image.new("RGB", (16, 16), (20, 30, 220))
    blue.convert(mode).save(tmp_path / "cell.tif")
    read = read_image(tmp_path / "cell.tif")
    # 8 bits of another color space hold RGB to within a few steps
    np.testing.assert_allclose(read.astype(int), np.asarray(blue).astype(int), atol=6)


@pytest.mark.parametrize("photometric", [0, 9, 10, 34892])  # white is 0, ICC and ITU Lab, raw
def test_colors_that_nobody_turns_into_rgb_are_refused(tmp_path, image, photometric):
    path = tmp_path / "rare.tif"
    tifffile.imwrite(path, image, photometric=photometric, planarconfig="contig")
    refused(path, "save it as RGB")
    tifffile.imwrite(path, image.astype(np.uint16) * 257, photometric="cielab")
    refused(path, "save it as RGB")


def refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_image(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tif"])
def test_files_cut_short(tmp_path, rng, ending):
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "broken|decoded|no image")


def test_files_that_are_no_color_image(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "0 bytes")
    for ending in ("jpg", "tif"):
        (tmp_path / f"text.{ending}").write_text("not an image at all")
        refused(tmp_path / f"text.{ending}", "no image|broken")
        Image.new("L", (9, 9)).save(tmp_path / f"gray.{ending}")
        refused(tmp_path / f"gray.{ending}", "gray")
    Image.new("I;16", (9, 9)).save(tmp_path / "deepgray.png")
    refused(tmp_path / "deepgray.png", "gray")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    refused(tmp_path / "dot.png", "1 pixel")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((4, 4, 3), np.float32), photometric="rgb")
    refused(tmp_path / "float.tif", "float32")


def png_chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def huge_png(path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = png_chunk(b"IHDR", header)
    data += png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_a_header_or_a_palette_that_is_damaged(tmp_path, image):
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", b"short")
    (tmp_path / "header.png").write_bytes(png)
    refused(tmp_path / "header.png", "broken and cannot be decoded: Truncated IHDR")
    path = tmp_path / "palette.tif"
    Image.fromarray(image).quantize(4).save(path)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["ColorMap"]
    content = bytearray(path.read_bytes())
    content[tag.offset + 4 : tag.offset + 8] = struct.pack("<I", 1000)  # values, not 768
    path.write_bytes(content + bytes(2000))
    refused(path, "broken and cannot be decoded: invalid palette size")


@pytest.mark.parametrize("side", [11_000, 30_000])
def test_a_huge_header_is_refused_before_any_pixel_is_read(tmp_path, side):
    huge_png(tmp_path / "huge.png", side)
    refused(tmp_path / "huge.png", "limit")


def test_the_limit_can_be_moved(tmp_path, image):
    path = tmp_path / "cell.png"
    Image.fromarray(image).save(path)
    with pytest.raises(ValueError, match="12|limit of 100"):
        read_image(path, max_pixels=100)
    assert read_image(path, max_pixels=108).shape == image.shape


def test_object_arrays_are_built_one_by_one(image):
    items = to_object_array([image, image])
    assert items.shape == (2,) and items[1] is image
