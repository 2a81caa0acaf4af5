"""The training of the field network: what it is shown is true, and a run can be stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from scipy import ndimage

from hemaest.nets.fieldnet import CLASSES, FieldNet, depth_of
from hemaest.pretrained import _runs, train_fields
from hemaest.pretrained.train_fields import IGNORED, Settings, batches, draw_field, train

SMALL = Settings(steps=3, batch=2, crop=64, fresh=1, pool=4, widths=(4, 4, 4), precision="float32")


def test_a_field_and_its_truth_fit_together():
    fields = [draw_field([0, k]) for k in range(4)]
    for field in fields:
        assert field.image.shape == (256, 256, 3)
        assert set(np.unique(field.kind)) <= {*range(len(CLASSES)), IGNORED}
        # depth is that of objects: none in the background, four pixels away from them
        objects = ndimage.binary_dilation(field.kind > 0, iterations=4)
        assert field.depth[~objects].max(initial=0) == 0
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


def test_strangers_are_no_films_and_nothing_else_is_known_of_them():
    settings = replace(SMALL, steps=2, batch=4, fresh=4, strangers=1.0)
    for _, kind, depth, _, film in batches(settings, 0):
        assert (kind == IGNORED).all() and (depth == 0).all() and (film == 0).all()
    for *_, film in batches(replace(settings, strangers=0.0), 0):
        assert (film == 1).all()


def test_a_network_with_a_new_output_begins_with_what_it_knew(tmp_path):
    old, new = FieldNet((4, 4, 4)).eval(), FieldNet((4, 4, 4)).eval()
    weights = {k: v for k, v in old.state_dict().items() if not k.endswith("tracked")}
    for name in ("unet.head.weight", "unet.head.bias"):
        weights[name] = weights[name][:-4].contiguous()
    save_file(weights, tmp_path / "old.safetensors")
    _runs.load(new, tmp_path / "old.safetensors")
    x = torch.randn(1, 3, 16, 16)
    np.testing.assert_array_equal(new(x)[:, :-1].detach(), old(x)[:, :-1].detach())
    assert (new(x)[:, -1] == 0).all()
    with pytest.raises(ValueError, match="another network"):
        _runs.load(FieldNet((4, 4, 8)), tmp_path / "old.safetensors")


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
