"""The script that makes the shipped weights: seeded, resumable, and the one on the card."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from hemaest.datasets import list_cell_types
from hemaest.datasets.crops import NOTHING
from hemaest.nets.cards import read_card
from hemaest.pretrained import train_cells
from hemaest.pretrained.train_cells import CLASSES, Settings, batches, rate, train

TINY = replace(
    Settings(), steps=4, batch=8, pool=32, size=32, channels=(8, 8, 8, 8), depths=(1, 1, 1, 1),
    precision="float32",
)  # fmt: skip


def test_every_recipe_is_drawn_for_exactly_one_type():
    drawn = [recipe for shares in CLASSES.values() for recipe in shares]
    assert sorted(drawn) == sorted([*list_cell_types(), NOTHING])


def test_the_card_has_the_settings_of_the_script():
    card = read_card("blood-cells")
    kept = {k: v for k, v in json.loads(json.dumps(asdict(Settings()))).items() if k != "steps"}
    assert {k: v for k, v in card.settings.items() if k != "steps"} == kept
    assert card.classes == tuple(CLASSES)
    assert f"--steps {card.settings['steps']}" in card.command


def test_a_stopped_run_continues_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train_cells, "calibrated", lambda *_: ({}, {}))
    whole = train(TINY, tmp_path / "whole", checkpoint_every=2)
    real = train_cells.keep

    def stop_after_keeping(*args):
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_cells, "keep", stop_after_keeping)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "stopped", checkpoint_every=2)
    monkeypatch.setattr(train_cells, "keep", real)
    again = train(TINY, tmp_path / "stopped", checkpoint_every=2)
    assert whole.read_bytes() == again.read_bytes()
    with pytest.raises(ValueError, match="other settings"):
        train(replace(TINY, seed=1), tmp_path / "stopped")


def test_a_batch_depends_on_its_step_alone():
    from_start = list(batches(TINY, 0))
    later = list(batches(TINY, 2))
    for one, other in zip(from_start[2:], later, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)


def test_the_rate_does_not_depend_on_the_length_before_the_descent():
    short, long = replace(Settings(), steps=1000), replace(Settings(), steps=3000)
    assert all(rate(short, s) == rate(long, s) for s in range(0, 700, 50))
    rates = [rate(short, s) for s in range(1000)]
    assert np.argmax(rates) >= 199 and rates[-1] < 0.01 * max(rates)
