"""Whatever is sent to the API, as its OpenAPI document says or not: no error of the server."""

import pytest

from benchmarks._api_cases import EVENTS, attack

from .conftest import analyzed

schemathesis = pytest.importorskip("schemathesis")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the libraries of the test say is not of the server
def test_no_case_of_the_document_breaks_the_server(app, tmp_path, monkeypatch):
    review = app.state.review
    monkeypatch.setattr(review.explainer, "why", lambda image, kind: (b"\xff\xd8", 0.5))
    review.store.keep_references(
        [{"id": "r", "type": "blast", "source": "rendered", "crop": b"\xff\xd8"}]
    )
    lasting = analyzed(review, tmp_path, kinds=["lymphocyte"] * 4 + ["blast"] * 2)

    def known(path, method):
        ends = method.lower() == "delete" or "sign" in path or "reopen" in path
        session = analyzed(review, tmp_path) if ends else lasting
        field = review.store.fields(session)[0]["id"]
        cell = review.store.cells(session, "0")[0]["id"]
        return {"session": session, "number": field if "fields" in path else cell, "name": "r",
                "kind": "geojson"}  # fmt: skip

    schema = schemathesis.openapi.from_asgi(
        "/openapi.json", app, headers={"Host": "localhost:8000"}
    )
    outcome = attack(schema, known, 5, base_url="http://localhost:8000")
    assert outcome.failures == []
    assert outcome.n > 90 and max(outcome.statuses) < 500
    operations = {f"{o.ok().method.upper()} {o.ok().path}" for o in schema.get_all_operations()}
    hardly = {"POST /api/sessions/{session}/fields", f"GET {EVENTS}"}
    assert len(outcome.reached | hardly) >= 0.7 * len(operations)
