"""A state folder with an analyzed field, a client without worker processes, a real server."""

import socket
import subprocess
import sys
import time
import urllib.request

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hemaest.datasets import make_cells
from hemaest.persistence import save
from hemaest.recipes import make_recipe
from hemaest.web import Settings, create_app

SERVER = """
import sys
from pathlib import Path
from hemaest.web import Settings, serve
if __name__ == "__main__":
    serve(Settings(state=Path(sys.argv[1]), model=Path(sys.argv[2]), port=int(sys.argv[3])))
"""


class Server:
    """The review page in a process of its own, which can be killed and started again."""

    def __init__(self, state, model):
        self.state = state
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self._script = state / "serve.py"
        self._script.write_text(SERVER)
        self._command = [sys.executable, self._script, state, model, str(self.port)]
        self.start()

    def start(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}api/config", timeout=5).read()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self):
        self._process.kill()
        self._process.wait()


def some_cell(kind="lymphocyte", x0=20.0, y0=20.0, **values):
    done, crop = cv2.imencode(".jpg", np.full((24, 24, 3), 180, np.uint8))
    assert done
    return {
        "x0": x0, "y0": y0, "x1": x0 + 24, "y1": y0 + 24, "outline": [], "nucleus": [],
        "type": kind, "confidence": 0.8, "nc_ratio": 0.7, "crop": crop.tobytes(),
        "probabilities": {kind: 0.8, "monocyte": 0.2}, **values,
    }  # fmt: skip


def field_file(path, size=(96, 128), seed=0):
    pixels = np.random.default_rng(seed).integers(150, 250, (*size, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def analyzed(review, folder, kinds=("lymphocyte", "monocyte", "blast"), name="smear", **values):
    """Return a session with one analyzed field of cells; a value may be a function of the kind."""
    store = review.store
    session = store.new_session(name)
    path = field_file(folder / f"{session}.png")
    store.add_field(session, "field one.png", path)
    job = store.next_job()
    cells = []
    for i, kind in enumerate(kinds):
        own = {name: v(kind) if callable(v) else v for name, v in values.items()}
        cells.append(some_cell(kind, x0=4.0 + 26 * (i % 4), **own))
    store.finish(job["id"], {"width": 128, "height": 96, "warnings": ["dim light"], "cells": cells})
    return session


def open_store(state):
    """Return the memory of a state folder, which a server may have open too."""
    return create_app(Settings(state=state)).state.review.store


class Smear:
    """A session over the HTTP API."""

    def __init__(self, client, session):
        self.client = client
        self.at = f"/api/sessions/{session}"

    def get(self, what, observer="A", **params):
        answer = self.client.get(f"{self.at}/{what}", params={"observer": observer, **params})
        assert answer.status_code == 200, answer.text
        return answer

    def post(self, what, observer="A", status=200, **body):
        answer = self.client.post(f"{self.at}/{what}", json={"observer": observer, **body})
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def label(self, cells, kind, observer="A", **how):
        return self.post("labels", observer, cells=list(cells), type=kind, **how)

    def cells(self, observer="A"):
        return self.get("cells", observer).json()["cells"]

    def numbers(self, observer="A"):
        return [c["id"] for c in self.cells(observer)]

    def labels(self, observer="A"):
        return [c["label"] for c in self.cells(observer)]

    def differential(self, observer="A"):
        return self.get("differential", observer).json()

    def field(self):
        return self.client.get(self.at).json()["fields"][0]["id"]

    def log(self):
        return self.client.get(f"{self.at}/log").json()


@pytest.fixture
def app(tmp_path):
    app = create_app(Settings(state=tmp_path / "state"))
    yield app
    app.state.review.store.close()


@pytest.fixture
def new_smear(app, client, tmp_path):
    """Return a function that opens a session with one analyzed field of these cells."""

    def make(*kinds, **values):
        return Smear(client, analyzed(app.state.review, tmp_path, kinds, **values))

    return make


@pytest.fixture
def client(app):
    # without "with" the application's processes are not started
    client = TestClient(app, base_url="http://localhost:8000", headers={"X-Hemaest": "1"})
    yield client
    client.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One real server for all tests that need one: each works in sessions of its own."""
    kinds = ["lymphocyte", "neutrophil", "monocyte"]
    cells = make_cells(36, classes=kinds, image_size=64, random_state=0)
    recipe = make_recipe("color-logistic", random_state=0).fit(cells.images, cells.target)
    state = tmp_path_factory.mktemp("state")
    save(recipe, state / "model.hemaest")
    server = Server(state, state / "model.hemaest")
    yield server
    server.kill()
