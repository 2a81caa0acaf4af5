"""Why a cell has its type: the heat map, and the process that makes it."""

import cv2
import numpy as np
import pytest

from hemaest.datasets import make_cells
from hemaest.persistence import save
from hemaest.recipes import make_recipe
from hemaest.web._why import Busy, Explainer, occlusion

from .conftest import analyzed


class Red:
    """Says "red" by the share of red pixels in the upper left quarter."""

    classes_ = np.array(["other", "red"])

    def predict_proba(self, X):
        red = np.array([(x[:20, :20, 0] > 200).mean() for x in X])
        return np.column_stack([1 - red, red])


def test_heat_lies_where_the_model_looks():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20, 0] = 255
    image[25:, 25:, 0] = 255
    image[[0, -1]] = image[:, [0, -1]] = 0  # the covers have the color of the border
    fall = occlusion(Red(), image, "red")
    assert fall.shape == (40, 40)
    assert fall[5:15, 5:15].min() > 0.1 and fall[30:, 30:].max() == 0
    assert occlusion(Red(), image, "other").max() == 0
    with pytest.raises(ValueError, match="blast"):
        occlusion(Red(), image, "blast")


@pytest.mark.slow
def test_the_process_answers_and_comes_back_after_its_death(tmp_path):
    cells = make_cells(24, classes=["lymphocyte", "neutrophil"], image_size=64, random_state=0)
    recipe = make_recipe("color-logistic", random_state=0).fit(cells.images, cells.target)
    save(recipe, tmp_path / "model.hemaest")
    explainer = Explainer(tmp_path / "model.hemaest")
    try:
        encoded, fall = explainer.why(cells.images[0], "lymphocyte")
        drawn = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert max(drawn.shape) == 256 and 0 <= fall <= 1
        with pytest.raises(ValueError, match="no type"):
            explainer.why(cells.images[0], "no type")
        explainer._process.kill()
        explainer._process.join()
        with pytest.raises(ValueError, match="ended"):
            explainer.why(cells.images[0], "lymphocyte")
        assert explainer.why(cells.images[0], "lymphocyte")[1] == fall
    finally:
        explainer.stop()


def test_the_route_hands_over_cell_and_type(client, app, tmp_path, monkeypatch):
    session = analyzed(app.state.review, tmp_path)
    at = f"/api/sessions/{session}"
    cell = client.get(f"{at}/cells", params={"observer": "A"}).json()["cells"][0]
    calls = []

    def why(image, kind):
        calls.append((image.shape[2], kind))
        if len(calls) > 1:
            raise Busy("the model is busy")
        return b"\xff\xd8", 0.25

    monkeypatch.setattr(app.state.review.explainer, "why", why)
    answer = client.get(f"{at}/cells/{cell['id']}/why")
    assert answer.headers["hemaest-largest-fall"] == "0.2500" and answer.content == b"\xff\xd8"
    assert calls == [(3, "lymphocyte")]
    assert client.get(f"{at}/cells/{cell['id']}/why").status_code == 429
    field = client.get(at).json()["fields"][0]["id"]
    new = {"observer": "A", "field": field, "x": 50.0, "y": 50.0, "type": "basophil"}
    added = client.post(f"{at}/cells", json=new).json()["id"]
    assert client.get(f"{at}/cells/{added}/why").status_code == 409
