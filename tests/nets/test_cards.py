"""Cards of shipped weights: what is on them is true of the files."""

from dataclasses import replace

import pytest

from hemaest.nets import cards
from hemaest.nets.cards import ModelCard, card_names, file_hash, read_card, shipped_weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    shipped_weights.cache_clear()
    yield tmp_path
    shipped_weights.cache_clear()


def made(folder, **change):
    weights = folder / "small.safetensors"
    weights.write_bytes(b"weights")
    card = ModelCard("small", "a task", "nothing", "a command", "abc", file_hash(weights), ("a",),
                     {"a set": {"accuracy": 0.5}})  # fmt: skip
    cards.write_card(replace(card, **change), folder)
    return card


def test_a_card_comes_back_as_it_was_written(folder):
    card = made(folder)
    assert card_names() == ["small"]
    assert read_card("small") == card
    assert shipped_weights("small") == folder / "small.safetensors"


def test_a_file_that_is_not_the_one_on_the_card_is_refused(folder):
    made(folder)
    (folder / "small.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="is not the file that its card describes"):
        shipped_weights("small")


def test_a_likely_typo_is_answered(folder):
    made(folder)
    with pytest.raises(ValueError, match="Did you mean 'small'"):
        read_card("smal")


def test_the_text_of_a_card_says_how_to_make_it_again(folder):
    text = str(made(folder))
    assert "a command (commit abc)" in text and "accuracy 0.500" in text


@pytest.mark.parametrize("name", card_names())
def test_shipped_files_are_small_and_as_their_cards_say(name):
    path = shipped_weights(name)
    assert path.stat().st_size <= 2_000_000
    assert file_hash(path) == read_card(name).sha256


def test_all_shipped_weights_together_stay_below_eight_megabytes():
    assert sum(path.stat().st_size for path in cards.FOLDER.glob("*.safetensors")) <= 8_000_000
