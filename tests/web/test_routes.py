"""The HTTP API: who is let in, what is refused, and that the page's calls do what they say."""

import asyncio
import http.client
import io
import json
import socket
import time
import zipfile
import zlib

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from hemaest.web import Settings, create_app, serve

from .conftest import analyzed, field_file

WHO = {"observer": "A"}


def labels(client, session, observer="A"):
    cells = client.get(f"/api/sessions/{session}/cells", params={"observer": observer}).json()
    return {c["id"]: c["label"] for c in cells["cells"]}


def png(width=64, height=48, kind="PNG", **how):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 180, 190)).save(file, kind, **how)
    return file.getvalue()


def test_from_labels_to_a_signed_report(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}"
    first, second, blast = labels(client, session)
    steps = client.post(f"{at}/labels", json=WHO | {"cells": [first], "type": "monocyte"}).json()
    assert steps == {"undo": 1, "redo": 0}
    table = client.get(f"{at}/differential", params=WHO).json()
    assert {r["type"]: r["n"] for r in table["rows"]} == {
        "monocyte": 2,
        "lymphocyte": 0,
        "blast": 1,
    }
    refused = client.post(f"{at}/signature", json=WHO)
    assert refused.status_code == 409 and "Blasts" in refused.json()["detail"]["to_do"][0]
    assert client.post(f"{at}/seen", json=WHO | {"cells": [blast]}).status_code == 204
    assert client.post(f"{at}/signature", json=WHO | {"note": "fine"}).status_code == 201
    late = client.post(f"{at}/labels", json=WHO | {"cells": [second], "type": "blast"})
    assert late.status_code == 409
    pdf = client.get(f"{at}/export/pdf", params=WHO)
    assert pdf.headers["content-type"] == "application/pdf" and pdf.content.startswith(b"%PDF-")
    events = [e["event"] for e in client.get(f"{at}/log").json()]
    assert events[-3:] == ["labeled", "seen", "signed"]


def test_every_export_holds_the_cells(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}/export"
    got = {
        k: client.get(f"{at}/{k}", params=WHO) for k in client.get("/api/config").json()["exports"]
    }
    assert all(r.status_code == 200 for r in got.values())
    assert len(got["csv"].text.splitlines()) == 4
    assert len(got["json"].json()["cells"]) == 3
    assert len(got["coco"].json()["annotations"]) == 3
    names = zipfile.ZipFile(io.BytesIO(got["folder"].content)).namelist()
    assert sorted(n.split("/")[0] for n in names) == ["blast", "lymphocyte", "monocyte"]
    assert client.get(f"{at}/exe", params=WHO).status_code == 404


def test_a_corrected_file_is_read_back(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}"
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{at}/export/geojson", params=WHO).content))
    content = json.loads(archive.read(archive.namelist()[0]))
    content["features"][0]["properties"]["classification"]["name"] = "plasma cell"
    answer = client.post(
        f"{at}/import", params=WHO, files={"file": ("c.geojson", json.dumps(content))}
    )
    assert answer.json() == {"recognized": 3, "changed": 1}
    assert list(labels(client, session).values()) == ["plasma cell", "monocyte", "blast"]
    content["features"][0]["properties"]["classification"]["name"] = "no such cell"
    answer = client.post(
        f"{at}/import", params=WHO, files={"file": ("c.geojson", json.dumps(content))}
    )
    assert answer.status_code == 422 and "no such cell" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["coco", "geojson"])
def test_what_one_observer_takes_away_gives_another_the_same_labels(kind, client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}"
    first = client.get(f"{at}/cells", params=WHO).json()["cells"]
    given = ["basophil", "segmented neutrophil", "unidentified"]
    for cell, name in zip(first, given, strict=True):
        body = {**WHO, "cells": [cell["id"]], "type": name}
        assert client.post(f"{at}/labels", json=body).status_code == 200
    content = client.get(f"{at}/export/{kind}", params=WHO).content
    if kind == "geojson":
        archive = zipfile.ZipFile(io.BytesIO(content))
        content = archive.read(archive.namelist()[0])
    other = {"observer": "another"}
    answer = client.post(f"{at}/import", params=other, files={"file": ("c.json", content)})
    assert answer.json() == {"recognized": 3, "changed": 3}
    cells = client.get(f"{at}/cells", params=other).json()["cells"]
    assert [c["label"] for c in cells] == given
    again = client.get(f"{at}/export/{kind}", params=other).content
    if kind == "geojson":
        archive = zipfile.ZipFile(io.BytesIO(again))
        again = archive.read(archive.namelist()[0])
    assert json.loads(again) == json.loads(content)


def test_undo_and_redo_say_what_the_cells_are_now(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}"
    one, two, _ = (c["id"] for c in client.get(f"{at}/cells", params=WHO).json()["cells"])
    for name in ("basophil", "blast"):
        client.post(f"{at}/labels", json={**WHO, "cells": [one, two], "type": name})
    for call, name, undo in (("undo", "basophil", 1), ("undo", None, 0), ("redo", "basophil", 1)):
        answer = client.post(f"{at}/{call}", json=WHO).json()
        assert answer["cells"] == [one, two] and answer["types"] == [name, name]
        assert answer["steps"] == {"undo": undo, "redo": 2 - undo}


def test_outlines_are_left_out_on_request(client, app, tmp_path):
    at = f"/api/sessions/{analyzed(app.state.review, tmp_path)}"
    whole = client.get(f"{at}/cells", params=WHO).json()["cells"]
    short = client.get(f"{at}/cells", params={**WHO, "outlines": "false"}).json()["cells"]
    drawn = {"outline", "nucleus"}
    assert all(drawn <= c.keys() for c in whole) and len(short) == len(whole) == 3
    assert short == [{k: v for k, v in c.items() if k not in drawn} for c in whole]


def test_answers_do_not_wait_for_the_other_side(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(
        "uvicorn.Server.run", lambda server, sockets: started.append((server, sockets))
    )
    serve(Settings(state=tmp_path / "state", port=0))
    ((server, (listening,)),) = started
    server.config.app.state.review.store.close()
    assert f":{listening.getsockname()[1]}/" in capsys.readouterr().out

    async def accept():
        opened = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda r, w: opened.set_result(w), sock=listening)
        _, client = await asyncio.open_connection(*listening.getsockname()[:2])
        socket_ = (await opened).get_extra_info("socket")
        now = socket_.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for writer in (client, await opened):
            writer.close()
        server.close()
        return now

    assert asyncio.run(accept())


def test_a_missed_cell_is_added_inside_the_field_only(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}"
    field = client.get(at).json()["fields"][0]["id"]
    new = {**WHO, "field": field, "x": 5.0, "y": 90.0, "type": "basophil"}
    number = client.post(f"{at}/cells", json=new).json()["id"]
    cell = next(
        c for c in client.get(f"{at}/cells", params=WHO).json()["cells"] if c["id"] == number
    )
    assert (cell["x0"], cell["y1"], cell["label"]) == (0.0, 96.0, "basophil")
    assert client.get(f"{at}/cells/{number}/image").content.startswith(b"\xff\xd8")
    assert client.post(f"{at}/cells", json=new | {"x": 500.0}).status_code == 422
    assert client.post(f"{at}/cells", json=new | {"type": "frog"}).status_code == 422


def test_sessions_are_apart(client, app, tmp_path):
    one, other = (analyzed(app.state.review, tmp_path) for _ in range(2))
    cell = next(iter(labels(client, one)))
    field = client.get(f"/api/sessions/{one}").json()["fields"][0]["id"]
    assert client.get(f"/api/sessions/{other}/cells/{cell}/image").status_code == 404
    assert client.get(f"/api/sessions/{other}/fields/{field}/image").status_code == 404
    body = WHO | {"cells": [cell], "type": "blast"}
    assert client.post(f"/api/sessions/{other}/labels", json=body).status_code == 404
    assert "blast" not in labels(client, one)[cell]


def test_agreement_only_after_both_signed(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path, kinds=["lymphocyte"] * 4 + ["monocyte"] * 4)
    at = f"/api/sessions/{session}"
    cells = list(labels(client, session))
    client.post(f"{at}/labels", json={"observer": "B", "cells": cells[:1], "type": "monocyte"})
    who = {"first": "A", "second": "B"}
    assert client.get(f"{at}/agreement", params=who).status_code == 409
    for observer in "AB":
        client.post(f"{at}/signature", json={"observer": observer})
    result = client.get(f"{at}/agreement", params=who).json()
    assert result["agreement"] == 7 / 8 and result["kappa"] == pytest.approx(0.75)


def bomb():
    """A PNG that claims 60,000 x 60,000 pixels in a few bytes."""
    import struct

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\x00" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


HOSTILE = {
    "text.png": b"hello",
    "empty.png": b"",
    "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "page.jpg": b"<html><script>alert(1)</script></html>",
    "animation.gif": png(kind="GIF"),
    "report.pdf": b"%PDF-1.7 ...",
    "program.png": b"\x7fELF" + b"\x00" * 200,
    "bomb.png": bomb(),
    "cut.tif": png(kind="TIFF")[:40],
    "dot.png": png(2, 2),
    "archive.png": b"PK\x03\x04" + b"\x00" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_field_is_refused_with_a_reason(name, client, app):
    session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
    answer = client.post(
        f"/api/sessions/{session}/fields", files=[("files", (name, HOSTILE[name], "image/png"))]
    )
    assert answer.status_code == 422
    refused = answer.json()["detail"]["refused"]
    assert refused[0]["name"] == name and refused[0]["reason"]
    images = app.state.review.folder / "images"
    assert list(images.iterdir()) == []


def test_good_images_are_taken_beside_bad_ones(client):
    session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
    files = [("files", ("a.png", png(), "image/png")), ("files", ("b.png", b"no", "image/png"))]
    answer = client.post(f"/api/sessions/{session}/fields", files=files)
    assert answer.status_code == 201
    assert [a["name"] for a in answer.json()["accepted"]] == ["a.png"]
    assert [r["name"] for r in answer.json()["refused"]] == ["b.png"]


def test_limits_of_size_and_number(tmp_path):
    app = create_app(
        Settings(
            state=tmp_path / "s", max_bytes=2000, max_slide_bytes=2000, max_pixels=5000, max_files=2
        )
    )
    client = TestClient(app, base_url="http://localhost:8000", headers={"X-Hemaest": "1"})
    session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
    files = [("files", (f"{i}.png", png(60, 60), "image/png")) for i in range(3)]
    answer = client.post(f"/api/sessions/{session}/fields", files=files).json()
    assert len(answer["accepted"]) == 2 and "holds 2 images" in answer["refused"][0]["reason"]
    other = client.post("/api/sessions", json={"name": "y"}).json()["id"]
    for data, reason in ((b"x" * 3000, "larger than"), (png(80, 80), "pixels")):
        answer = client.post(
            f"/api/sessions/{other}/fields", files=[("files", ("a.png", data, "image/png"))]
        )
        assert reason in answer.json()["detail"]["refused"][0]["reason"]
    answer = client.post(
        f"/api/sessions/{other}/fields", files=[("files", ("a", b"x" * 2**21, "image/png"))]
    )
    assert answer.status_code == 413
    client.close()
    app.state.review.store.close()


def test_names_of_clients_are_text_only(client, app):
    session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
    files = [("files", (name, png(), "image/png")) for name in ("../../etc/passwd", "x" * 500)]
    answer = client.post(f"/api/sessions/{session}/fields", files=files).json()
    assert [a["name"] for a in answer["accepted"]] == ["passwd", "x" * 120]
    stored = [path.name for path in (app.state.review.folder / "images").iterdir()]
    assert len(stored) == 2 and "passwd" not in stored


def test_other_sites_and_other_machines_are_kept_out(client, app):
    body = {"name": "x"}
    no_header = client.post("/api/sessions", json=body, headers={"X-Hemaest": ""})
    assert no_header.status_code == 201  # the header is there; a form cannot send any
    del client.headers["X-Hemaest"]
    assert client.post("/api/sessions", json=body).status_code == 403
    client.headers["X-Hemaest"] = "1"
    evil = client.post("/api/sessions", json=body, headers={"Origin": "https://evil.example"})
    assert evil.status_code == 403
    rebound = client.get("/api/sessions", headers={"Host": "evil.example"})
    assert rebound.status_code == 421


def test_a_token_is_needed_on_any_other_address(tmp_path):
    settings = Settings(state=tmp_path / "s", host="0.0.0.0")
    assert settings.token and settings.token not in repr(settings)
    app = create_app(settings)
    client = TestClient(app, base_url="http://lab.example:8000", headers={"X-Hemaest": "1"})
    assert client.get("/").status_code == 401
    assert client.get("/api/sessions").status_code == 401
    assert client.get("/", params={"token": "x" * 32}).status_code == 401
    assert client.get("/", params={"token": settings.token}).status_code == 200
    assert client.get("/api/sessions").status_code == 200  # the cookie
    client.cookies.clear()
    bearer = {"Authorization": f"Bearer {settings.token}"}
    assert client.get("/api/sessions", headers=bearer).status_code == 200
    client.close()
    app.state.review.store.close()


def test_every_answer_carries_the_protecting_headers(client):
    for path in (
        "/",
        "/docs",
        "/static/main.js",
        "/api/sessions",
        "/api/sessions/none",
        "/nothing",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_paths_of_this_machine_are_not_shown(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    for path in (f"/api/sessions/{session}", f"/api/sessions/{session}/log"):
        assert str(tmp_path) not in client.get(path).text


def test_a_field_that_went_away_is_named(client, app, tmp_path):
    session = analyzed(app.state.review, tmp_path)
    (tmp_path / f"{session}.png").unlink()
    field = client.get(f"/api/sessions/{session}").json()["fields"][0]["id"]
    assert client.get(f"/api/sessions/{session}/fields/{field}/image").status_code in {410, 422}


def test_a_deleted_session_takes_its_uploads_along(client, app):
    session = client.post("/api/sessions", json={"name": "x"}).json()["id"]
    client.post(f"/api/sessions/{session}/fields", files=[("files", ("a.png", png(), "image/png"))])
    images = app.state.review.folder / "images"
    assert len(list(images.iterdir())) == 1
    assert client.delete(f"/api/sessions/{session}", params=WHO).status_code == 204
    assert list(images.iterdir()) == []
    assert client.get(f"/api/sessions/{session}").status_code == 404


def test_files_of_this_machine_stay_where_they_are(tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    field_file(folder / "a.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(png()[:60])
    app = create_app(Settings(state=tmp_path / "s", paths=(folder,)))
    review = app.state.review
    session = review.store.sessions()[0]["id"]
    fields = review.store.fields(session)
    assert [(f["name"], f["state"]) for f in fields] == [
        ("a.png", "queued"),
        ("broken.png", "failed"),
    ]
    assert fields[0]["path"] == str((folder / "a.png").resolve())
    assert not (review.folder / "images").exists()
    review.store.close()


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False),
     ("lab.example", False), ("192.168.1.4", False), ("127.0.0.1.evil.example", False)],
)  # fmt: skip
def test_only_this_machine_needs_no_token(host, here):
    assert (Settings(host=host).token is None) is here


@pytest.mark.parametrize(
    "settings", [{"workers": 0}, {"port": 70000}, {"token": "short"}, {"max_bytes": 0}]
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValueError, match="must"):
        Settings(**settings)


@pytest.mark.slow
def test_a_connection_that_rested_for_seconds_still_answers(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/api/config")
    assert connection.getresponse().read()
    own = connection.sock
    time.sleep(6)  # longer than clients and servers commonly keep a connection
    connection.request("GET", "/api/config")
    assert connection.getresponse().read()
    assert connection.sock is own
    connection.close()
