"""The training of the field network: what it is shown is true, and a run can be stopped."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from hemaest.nets.fieldnet import CLASSES, depth_of
from hemaest.pretrained import train_fields
from hemaest.pretrained.train_fields import IGNORED, Settings, draw_field, train

SMALL = Settings(steps=3, batch=2, crop=64, fresh=1, pool=4, widths=(4, 4, 4), precision="float32")


def test_a_field_and_its_truth_fit_together():
    fields = [draw_field([0, k]) for k in range(4)]
    for field in fields:
        assert field.image.shape == (256, 256, 3)
        assert set(np.unique(field.kind)) <= {*range(len(CLASSES)), IGNORED}
        # depth is that of objects: none in the background
        assert field.depth[field.kind == 0].astype(float).mean() < 4
    assert any((field.kind == CLASSES.index("nucleus")).any() for field in fields)
    again = draw_field([0, 2])
    np.testing.assert_array_equal(again.image, fields[2].image)


def test_depth_is_one_in_the_middle_of_each_object_and_falls_between_two():
    y, x = np.mgrid[:60, :90]
    owners = np.where(np.hypot(y - 30, x - 30) < 15, 1, 0)
    owners = np.where(np.hypot(y - 30, x - 59) < 15, 2, owners)
    depth = depth_of(owners)
    assert depth[30, 30] == depth[30, 59] == 1
    assert depth[30, 44:46].max() < 0.2
    assert (depth[owners == 0] == 0).all()


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(train_fields, "held_out", lambda *_: {"score": 1.0})
    whole = train(SMALL, tmp_path / "whole")
    steps = train_fields.batches

    def stop_after_two(settings, start):
        for k, batch in enumerate(steps(settings, start)):
            if k == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_fields, "batches", stop_after_two)
        train(SMALL, tmp_path / "stopped", checkpoint_every=1)
    resumed = train(SMALL, tmp_path / "stopped")
    first, second = load_file(whole), load_file(resumed)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    card = json.loads((tmp_path / "stopped" / "blood-fields.json").read_text())
    assert card["classes"] == list(CLASSES)
    assert card["settings"]["widths"] == [4, 4, 4]
