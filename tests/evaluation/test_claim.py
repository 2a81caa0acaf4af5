"""The claim card flags every fault of procedure that is planted, and no other."""

import json

import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import Pipeline
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from hemaest.deep import FCMAEPretrainer
from hemaest.evaluation import compare, protocol_faults


class Subset:
    def __init__(self, dataset):
        self.dataset = dataset


PLANTED = {
    "validation reported as test": {"validation": [6, 7], "reported_on": "validation"},
    "validation inside training": {"validation": [4, 5, 6]},
    "test inside training": {"test": [3, 8]},
    "groups split": {"groups": [0, 0, 1, 1, 2, 2, 3, 3, 2, 4]},
    "unsaved seed": {"random_state": None},
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_fault_is_named_alone(name):
    options = {"train": [0, 1, 2, 3, 4, 5], "test": [8, 9], **PLANTED[name]}
    found = protocol_faults(**options)
    assert [flag["name"] for flag in found] == [name]
    assert found[0]["severity"] == "fault"


def test_sound_procedure_has_no_fault():
    assert protocol_faults([0, 1], [4], validation=[2, 3], groups=[0, 0, 1, 1, 2]) == []


def test_shared_data_set_object():
    data = object()
    options = {"train": [0], "test": [1]}
    shared = protocol_faults(**options, train_data=Subset(data), validation_data=Subset(data))
    assert [flag["name"] for flag in shared] == ["one shared data set object"]
    assert not protocol_faults(**options, train_data=Subset(data), validation_data=Subset(object()))


def test_weights_and_sampler_together():
    both = Pipeline(
        [("more", RandomOverSampler()), ("model", LogisticRegression(class_weight="balanced"))]
    )
    found = protocol_faults([0], [1], estimator=both)
    assert [flag["name"] for flag in found] == ["both weights and sampler"]
    both.set_params(model__class_weight=None)
    assert protocol_faults([0], [1], estimator=both) == []


def weights(*recipes):
    """Return what the claim card says of the weights of some recipes."""
    X = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3)).astype(np.uint8)
    named = {f"recipe {k}": model for k, model in enumerate(recipes)}
    card = compare(named, X, np.arange(12) % 2, np.arange(12) // 2, cv=2, control=False).claim()
    assert "failures" not in {flag["name"] for flag in card.flags}
    return card.facts["Weights"]


def test_ready_made_weights_are_named(tmp_path):
    class Net(DummyClassifier):
        def __init__(self, pretrained=False, backbone="resnet50.a1_in1k"):
            super().__init__()
            self.pretrained, self.backbone = pretrained, backbone

        @classmethod
        def _get_param_names(cls):
            return ["pretrained", "backbone"]

    path = tmp_path / "w.safetensors"
    path.write_bytes(b"weights")
    used = weights(Pipeline([("net", Net(str(path)))]), Net(True), Net(False))
    assert set(used) == {"recipe 0", "recipe 1"}
    file = used["recipe 0"]["net"]
    assert file["file"] == "w.safetensors" and len(file["sha256"]) == 64
    named = used["recipe 1"]["weights"]
    assert named["license"] == "apache-2.0" and "resnet50" in named["source"]


def test_what_was_fitted_outside_the_folds_is_named():
    X = np.zeros((2, 32, 32, 3), np.uint8)
    options = {"backbone_options": {"width": 8}, "image_size": 32, "max_epochs": 0}
    start = FCMAEPretrainer("resnet24", **options)
    pooled = FCMAEPretrainer("resnet24", extra_images=X, **options)
    used = weights(
        *(
            Pipeline([("embed", step), ("m", DummyClassifier())])
            for step in (start, FrozenEstimator(clone(start).fit(X)), pooled)
        )
    )
    assert used == {
        "recipe 1": {"embed": "FCMAEPretrainer, fitted before the split"},
        "recipe 2": {"embed": "FCMAEPretrainer, trained on the same 2 extra images in every fold"},
    }


def test_a_pool_beside_the_folds_is_flagged():
    class Pooled(DummyClassifier):
        def __init__(self, extra_images=None):
            super().__init__()
            self.extra_images = extra_images

        @classmethod
        def _get_param_names(cls):
            return ["extra_images"]

    X, y = np.zeros((12, 4, 4, 3), np.uint8), np.tile(["a", "b"], 6)
    card = compare({"m": Pooled(X)}, X, y, np.arange(12) // 2, cv=2, control=False).claim()
    flag = next(flag for flag in card.flags if flag["name"] == "trained on extra images")
    assert "12 extra images" in flag["text"] and "m" in flag["text"]
    assert "on extra images too" in card.facts["Fitted where"]["m"]


@pytest.mark.parametrize(
    ("source", "each", "unit", "flag"),
    [
        ("none", 1, "image", "split by image"),
        (None, 1, "image", "split by image"),
        ("none", 2, "group", None),
        ("near-duplicate", 2, "near-duplicate cluster", "no patients"),
        ("photograph", 2, "photograph", "no patients"),
        ("patient", 1, "patient", None),
    ],
)
def test_what_a_loader_says_of_its_groups_is_understood(source, each, unit, flag):
    X, y = np.zeros((24, 4, 4, 3), np.uint8), np.tile(["a", "a", "b", "b"], 6)
    models = {"chance": DummyClassifier()}
    groups = np.arange(24) // each
    result = compare(models, X, y, groups, cv=3, group_source=source, control=False)
    card = result.claim()
    assert card.facts["Split unit"] == unit and result.summary().startswith(f"Split by {unit}:")
    raised = {f["name"] for f in card.flags} & {"split by image", "no patients"}
    assert raised == ({flag} if flag else set())


def test_the_card_says_what_was_chosen_among():
    X, y = np.zeros((12, 4, 4, 3), np.uint8), np.tile(["a", "b"], 6)

    def chosen(*names, control=False):
        models = {name: DummyClassifier() for name in names}
        result = compare(models, X, y, np.arange(12) // 2, cv=2, control=control)
        return result.claim().facts["Test used to choose"]

    assert "one recipe was scored" in chosen("a")
    assert "named best of 2 recipes" in chosen("a", "b")
    assert "one recipe was scored beside the control" in chosen("a", control=True)
    assert "named best of 3 recipes" in chosen("a", "b", control=True)


def test_card_of_a_comparison_says_what_was_frozen(tmp_path):
    X = np.zeros((40, 4, 4, 3), np.uint8)
    y = np.tile(["a", "b"], 20)
    frozen = FrozenEstimator(DummyClassifier().fit(X, y))
    result = compare(
        {"f": frozen, "c": DummyClassifier()}, X, y, np.arange(40) // 4, cv=2, control=False
    )
    card = result.claim()
    names = {flag["name"] for flag in card.flags}
    assert {"fitted before the split", "no control"} <= names
    facts = json.loads(card.to_json(tmp_path / "card.json"))["facts"]
    assert facts["Seed"] == 0 and facts["Data hash"].startswith("sha256")
    assert "before the split" in facts["Fitted where"]["f"]
    assert (tmp_path / "card.json").exists() and "# Claim card" in card.to_markdown()
