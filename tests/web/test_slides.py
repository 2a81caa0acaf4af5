"""Whole slides on the page: what is found, the tiles, and which files are slides."""

import time

import cv2
import numpy as np
import pytest
import tifffile
from boxes import iou
from fastapi.testclient import TestClient

from hemaest.datasets import make_smear
from hemaest.web import Settings, create_app

from .conftest import analyzed, some_cell

WHO = {"observer": "A"}


def write_slide(path, image, levels=(2, 4), tile=128, um=0.2):
    with tifffile.TiffWriter(path) as file:
        how = {"tile": (tile, tile), "photometric": "rgb"}
        file.write(image, resolution=(1e4 / um, 1e4 / um), resolutionunit=3, **how)
        for k in levels:
            small = cv2.resize(image, None, fx=1 / k, fy=1 / k, interpolation=cv2.INTER_AREA)
            file.write(small, subfiletype=1, **how)
    return path


@pytest.fixture(scope="module")
def smear():
    return make_smear((420, 560), n_cells=5, random_state=2)


@pytest.fixture(scope="module")
def slide(tmp_path_factory, smear):
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.tif", smear.image)


@pytest.fixture
def upload(tmp_path):
    """Return a function that uploads a file: what it is taken for, or why it is refused."""
    opened = []

    def send(path, **settings):
        app = create_app(Settings(state=tmp_path / f"state {len(opened)}", **settings))
        opened.append(app.state.review)
        client = TestClient(app, base_url="http://localhost:8000", headers={"X-Hemaest": "1"})
        session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
        files = [("files", (path.name, path.read_bytes(), "x/y"))]
        answer = client.post(f"/api/sessions/{session}/fields", files=files).json()
        client.close()
        if "detail" in answer:
            return answer["detail"]["refused"][0]["reason"]
        return answer["accepted"][0]["kind"]

    yield send
    for review in opened:
        review.slides.close()
        review.store.close()


def test_what_is_a_slide(tmp_path, slide, smear, upload):
    assert upload(slide, max_pixels=100_000) == "slide"
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, smear.image[:200, :200], photometric="rgb")
    assert upload(plain, max_pixels=100_000) == "image"
    flat = write_slide(tmp_path / "flat.tif", smear.image, levels=())
    assert "pyramid" in upload(flat, max_pixels=100_000)
    assert "pixels" in upload(slide, max_pixels=100_000, max_slide_pixels=1000)


def test_a_slide_with_huge_tiles_is_refused(tmp_path, upload):
    path = tmp_path / "tiles.tif"
    image = np.zeros((64, 64, 3), np.uint8)
    with tifffile.TiffWriter(path) as file:
        for _ in range(2):
            file.write(image, tile=(64, 64), photometric="rgb")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        places = [p.tags[t].valueoffset for p in file.pages for t in ("TileWidth", "TileLength")]
    for place in places:  # both tags hold 16 bits
        content[place : place + 2] = (60_000).to_bytes(2, "little")
    path.write_bytes(bytes(content))
    assert "60000 x 60000" in upload(path)


@pytest.mark.slow
def test_the_cells_of_a_slide_have_outlines_in_its_pixels(slide, smear, tmp_path):
    app = create_app(Settings(state=tmp_path / "state", paths=(slide,)))
    store, pool = app.state.review.store, app.state.review.pool
    shown = []
    pool.on_change = lambda session: shown.append(max(pool.progress.values(), default=0))
    with TestClient(app, base_url="http://localhost:8000") as client:  # starts its processes
        (session,) = (s["id"] for s in client.get("/api/sessions").json())
        end = time.monotonic() + 240
        while (field := store.fields(session)[0])["state"] in {"queued", "working"}:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert (field["width"], field["height"]) == (560, 420)
        assert max(shown) > 0
        cells = [store.cell(session, c["id"]) for c in store.cells(session, "A")]
    assert len(cells) >= 4
    centers = (smear.boxes[:, :2] + smear.boxes[:, 2:4]) / 2
    for cell in cells:
        middle = (cell["x0"] + cell["x1"]) / 2, (cell["y0"] + cell["y1"]) / 2
        assert np.hypot(*(centers - middle).T).min() < 12
        assert cell["type"] in cell["probabilities"] and cell["crop"].startswith(b"\xff\xd8")
    outlined = [c for c in cells if c["outline"]]
    assert len(outlined) >= len(cells) - 1
    for cell in outlined:
        x, y = np.array(cell["outline"]).T
        box = np.array([[cell["x0"], cell["y0"], cell["x1"], cell["y1"]]])
        assert iou(box, np.array([[x.min(), y.min(), x.max(), y.max()]]))[0, 0] > 0.75
        assert 0 < cell["nc_ratio"] <= 1


def test_a_slide_is_uploaded_and_shown_in_tiles(slide, smear, tmp_path):
    app = create_app(Settings(state=tmp_path / "s", max_bytes=50_000))
    review = app.state.review
    client = TestClient(app, base_url="http://localhost:8000", headers={"X-Hemaest": "1"})
    session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
    at = f"/api/sessions/{session}"
    answer = client.post(f"{at}/fields", files=[("files", ("a.svs", slide.read_bytes(), "x/y"))])
    assert answer.json()["accepted"][0]["kind"] == "slide"
    number = answer.json()["accepted"][0]["id"]
    job = review.store.next_job()
    assert job["kind"] == "slide"
    cell = some_cell(x0=100.0, y0=90.0)
    result = {"width": 560, "height": 420, "warnings": [], "cells": [cell]}
    review.store.finish(number, result)

    def image(path):
        answer = client.get(f"{at}/{path}")
        assert answer.status_code == 200
        return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    assert image(f"fields/{number}/image?side=140").shape == (105, 140, 3)
    tile = image(f"fields/{number}/tiles/0/1/0")
    assert tile.shape == (420, 48, 3)
    assert abs(tile.astype(int) - smear.image[:, 512:]).mean() < 4
    assert image(f"fields/{number}/tiles/1/0/0").shape == (210, 280, 3)
    for missing in (f"fields/{number}/tiles/0/2/0", f"fields/{number}/tiles/12/1/1"):
        assert client.get(f"{at}/{missing}").status_code == 404
    (known,) = client.get(f"{at}/cells", params=WHO).json()["cells"]
    full = image(f"cells/{known['id']}/image?full=true")
    assert abs(full.astype(int) - smear.image[86:128, 96:128][: full.shape[0]]).shape[1] > 20
    new = {**WHO, "field": number, "x": 300.0, "y": 200.0, "type": "basophil"}
    assert client.post(f"{at}/cells", json=new).status_code == 201
    assert client.get(f"{at}/export/folder", params=WHO).status_code == 200
    client.close()
    review.slides.close()
    review.store.close()


def test_a_field_has_no_tiles(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    field = client.get(f"/api/sessions/{session}").json()["fields"][0]["id"]
    assert client.get(f"/api/sessions/{session}/fields/{field}/tiles/0/0/0").status_code == 404
