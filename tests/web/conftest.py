"""A state folder with an analyzed field, and a client without worker processes."""

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hemaest.web import Settings, create_app


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


def analyzed(review, folder, kinds=("lymphocyte", "monocyte", "blast"), name="smear"):
    """Return a session with one analyzed field of these cells."""
    store = review.store
    session = store.new_session(name)
    path = field_file(folder / f"{session}.png")
    store.add_field(session, "field one.png", path)
    job = store.next_job()
    cells = [some_cell(kind, x0=4.0 + 26 * (i % 4)) for i, kind in enumerate(kinds)]
    store.finish(job["id"], {"width": 128, "height": 96, "warnings": ["dim light"], "cells": cells})
    return session


@pytest.fixture
def app(tmp_path):
    app = create_app(Settings(state=tmp_path / "state"))
    yield app
    app.state.review.store.close()


@pytest.fixture
def client(app):
    # without "with" the application's processes are not started
    client = TestClient(app, base_url="http://localhost:8000", headers={"X-Hemaest": "1"})
    yield client
    client.close()
