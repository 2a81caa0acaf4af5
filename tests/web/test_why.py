"""Why a cell has its type: the heat map, and the process that makes it."""

import multiprocessing

import cv2
import numpy as np
import pytest

from hemaest.datasets import make_cells
from hemaest.persistence import save
from hemaest.recipes import make_recipe
from hemaest.web import Settings, create_app


@pytest.mark.slow
def test_the_process_answers_and_comes_back_after_its_death(tmp_path):
    cells = make_cells(24, classes=["lymphocyte", "neutrophil"], image_size=64, random_state=0)
    recipe = make_recipe("color-logistic", random_state=0).fit(cells.images, cells.target)
    save(recipe, tmp_path / "model.hemaest")
    review = create_app(
        Settings(state=tmp_path / "state", model=tmp_path / "model.hemaest")
    ).state.review
    explainer, others = review.explainer, set(multiprocessing.active_children())
    try:
        encoded, fall = explainer.why(cells.images[0], "lymphocyte")
        drawn = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert max(drawn.shape) == 256 and 0 <= fall <= 1
        with pytest.raises(ValueError, match="no type"):
            explainer.why(cells.images[0], "no type")
        (process,) = set(multiprocessing.active_children()) - others
        process.kill()
        process.join()
        with pytest.raises(ValueError, match="ended"):
            explainer.why(cells.images[0], "lymphocyte")
        assert explainer.why(cells.images[0], "lymphocyte")[1] == fall
    finally:
        explainer.stop()
        review.store.close()


def test_the_route_hands_over_cell_and_type(app, new_smear, monkeypatch):
    smear = new_smear("lymphocyte")
    (cell,) = smear.numbers()
    calls = []

    def why(image, kind):
        calls.append((image.shape[2], kind))
        return b"\xff\xd8", 0.25

    monkeypatch.setattr(app.state.review.explainer, "why", why)
    answer = smear.get(f"cells/{cell}/why")
    assert answer.headers["hemaest-largest-fall"] == "0.2500" and answer.content == b"\xff\xd8"
    assert calls == [(3, "lymphocyte")]
    new = {"field": smear.field(), "x": 50.0, "y": 50.0, "type": "basophil"}
    added = smear.post("cells", **new, status=201)["id"]
    assert smear.client.get(f"{smear.at}/cells/{added}/why").status_code == 409


def test_more_requests_than_may_wait_are_refused(monkeypatch, request):
    monkeypatch.setattr("hemaest.web._why.MOST_WAITING", 0)
    smear = request.getfixturevalue("new_smear")("lymphocyte")
    answer = smear.client.get(f"{smear.at}/cells/{smear.numbers()[0]}/why")
    assert answer.status_code == 429 and "busy" in answer.json()["detail"]
