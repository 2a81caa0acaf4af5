"""The script that makes the shipped weights: seeded, resumable, and the one on the card."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from hemaest.datasets import list_cell_types
from hemaest.datasets.crops import NOTHING, TRAITS
from hemaest.nets.cards import file_hash, read_card
from hemaest.pretrained import _runs, train_cells
from hemaest.pretrained._runs import first_weights, on_this_processor, parsed
from hemaest.pretrained.train_cells import (
    CLASSES,
    Settings,
    _shaken,
    batches,
    rate,
    restyle,
    train,
)

TINY = replace(
    Settings(), steps=4, batch=8, pool=32, size=32, channels=(8, 8, 8, 8), depths=(1, 1, 1, 1),
    precision="float32",
)  # fmt: skip


def test_every_recipe_is_drawn_for_exactly_one_type():
    drawn = [recipe for shares in CLASSES.values() for recipe in shares]
    assert sorted(drawn) == sorted([*list_cell_types(), NOTHING])


def test_the_card_has_the_settings_of_the_script():
    card = read_card("blood-cells")
    # each of several runs began with the weights of the one before; the settings are of the last
    last = card.command.split("; ")[-1].split(" (")[0]
    settings, _, _ = parsed(Settings(), "", last.split()[3:])
    # the precision is that of the processor it ran on
    settings = replace(settings, precision=card.settings["precision"])
    assert card.settings == json.loads(json.dumps(asdict(settings)))
    assert settings.precision in ("float32", "bfloat16")
    assert card.classes == tuple(CLASSES)


def test_the_precision_is_that_of_the_processor(monkeypatch):
    for has, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(_runs, "multiplies_bfloat16", lambda has=has: has)
        assert on_this_processor(Settings()).precision == precision
    assert on_this_processor(TINY) == TINY


def test_a_run_can_begin_with_the_weights_of_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(train_cells, "calibrated", lambda *_: ({}, {}))
    first = train(TINY, tmp_path / "first")
    still = replace(TINY, steps=1, learning_rate=0.0)
    again = train(still, tmp_path / "again", start_from=first)
    scratch = train(still, tmp_path / "scratch")
    weights, kept, other = (load_file(path)["classify.weight"] for path in (first, again, scratch))
    np.testing.assert_array_equal(weights, kept)
    assert (weights != other).any()
    card = json.loads((tmp_path / "again" / "blood-cells.json").read_text())
    assert file_hash(first)[:8] in card["training_data"] and first.name in card["command"]
    with pytest.raises(ValueError, match="another network"):
        train(replace(still, channels=(8, 8, 8, 16)), tmp_path / "other", start_from=first)


def test_a_run_can_begin_with_the_mean_of_several(tmp_path):
    files = [tmp_path / f"{k}.safetensors" for k in range(2)]
    for k, file in enumerate(files):
        weights = {"weight": np.full((2, 3), 1.0 + 2 * k, np.float16)}
        save_file(weights | ({"new": np.ones(3, np.float16)} if k else {}), file)
    assert first_weights([], tmp_path) is None and first_weights(files[:1], tmp_path) == files[0]
    mean = load_file(first_weights(files, tmp_path / "new"))
    np.testing.assert_array_equal(mean["weight"], np.full((2, 3), 2.0, np.float16))
    # what the first network did not have yet
    np.testing.assert_array_equal(mean["new"], np.full(3, 0.5, np.float16))


def test_a_zoomed_crop_keeps_its_outline_and_its_trait():
    image = torch.zeros(1, 3, 64, 64)
    image[..., 24:40, 24:40] = 1
    outline = (image[:, 0] * 2).byte()
    traits = torch.zeros(1, len(TRAITS))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        width = torch.tensor([16.0])
        moved, map_, changed, narrower = _shaken(image, outline, traits, width, rng)
        assert ((moved[0].mean(0) > 0.5) == (map_[0] == 2)).float().mean() > 0.99
        wider = np.sqrt(float((map_ == 2).sum())) / 16
        share = TRAITS.index("share_of_width")
        assert float(changed[0, share]) == pytest.approx(np.log(wider), abs=0.07)
        assert float(narrower) == pytest.approx(16 / np.exp(float(changed[0, share])))
        changed[0, share] = 0
        assert (changed == traits).all()


def test_a_stopped_run_continues_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train_cells, "calibrated", lambda *_: ({}, {}))
    whole = train(TINY, tmp_path / "whole", checkpoint_every=2)
    real = _runs.keep

    def stop_after_keeping(*args):
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(_runs, "keep", stop_after_keeping)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "stopped", checkpoint_every=2)
    monkeypatch.setattr(_runs, "keep", real)
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


def test_restyling_moves_statistics_of_maps_as_far_as_images_differ():
    torch.manual_seed(0)
    level = torch.linspace(-3, 3, 400)[:, None, None, None]
    maps = level + torch.randn(400, 4, 12, 12)
    assert torch.allclose(restyle(maps, 0.0), maps, atol=1e-5)
    moved = restyle(maps, 1.0).mean((2, 3)) - maps.mean((2, 3))
    spread = maps.mean((2, 3)).std(0)
    assert (abs(moved.mean(0)) < 0.2 * spread).all()
    assert (abs(moved.std(0) / spread - 1) < 0.15).all()
    half = (restyle(maps, 0.5) - maps).abs().amax((1, 2, 3)) > 1e-3
    assert 0.4 < half.float().mean() < 0.6
