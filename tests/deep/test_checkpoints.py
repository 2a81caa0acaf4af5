"""Names of parameters: alike in every process, another for whatever acts differently."""

import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator

from hemaest.deep import FCMAEPretrainer, ImageClassifier
from hemaest.deep.checkpoints import fingerprint, fingerprint_of_settings
from hemaest.stain import StainAugmenter

SCRIPT = """
import functools
import numpy as np
from hemaest.deep import FCMAEPretrainer
from hemaest.deep.checkpoints import fingerprint
from hemaest.stain import StainAugmenter

STRENGTH = {strength}

class Brighter:
    def __init__(self, by, names):
        self.by, self.names, self.me = by, names, self
    def __call__(self, x, generator):
        return x * self.by if "a" in {{"a", "b", "c"}} else x

def inner(x):
    return x * STRENGTH

def outer(x, generator, k=1):
    return inner(x) * k

def closed(by):
    return lambda x, generator: x * by

def recursive(x, generator):
    return recursive(x, generator) if x is None else x

things = [
    Brighter(2, {{"one", "two", "three"}}),
    Brighter(2, set()).__call__,
    functools.partial(outer, k=np.float32(2)),
    closed([1, 2]),
    recursive,
    np.random.RandomState(0),
    np.array(["a", None, 2.5], dtype=object),
    FCMAEPretrainer(augment=lambda x, g: x, extra_images=[np.zeros((4, 4, 3), np.uint8)]),
    StainAugmenter(random_state=0),
]
print("\\n".join(map(fingerprint, things)))
"""


def in_a_process(path, strength, hash_seed):
    path.write_text(SCRIPT.format(strength=strength))
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_another_process_finds_the_same_names(tmp_path):
    names = in_a_process(tmp_path / "run.py", 0.5, hash_seed=1)
    assert names == in_a_process(tmp_path / "run.py", 0.5, hash_seed=2)
    assert len(set(names)) == len(names)
    # a number that a function reads from its module is part of what it does
    other = in_a_process(tmp_path / "run.py", 0.6, hash_seed=1)
    assert [i for i, pair in enumerate(zip(names, other, strict=True)) if len(set(pair)) > 1] == [2]


def differing():
    def closed(by):
        return lambda x, g: x * by

    class Times:
        def __init__(self, by):
            self.by = by

        def __call__(self, x, g):
            return x * self.by

    class Plus(Times):
        def __call__(self, x, g):
            return x + self.by

    def plus(x, g, k=1):
        return x + k

    yield from (lambda x, g: x, lambda x, g: x * 0, lambda x, g, by=0: x * by)
    yield from (lambda x, g, by=1: x * by, lambda x, g, *, by=1: x * by)
    yield from (closed(1), closed(2), closed(None))
    yield from (Times(1), Times(2), Plus(1), Plus(1).__call__, Times(2).__call__)
    yield from (plus, functools.partial(plus, k=2), functools.partial(plus, k=3), np.add, abs)
    yield from (Times, Plus, None, "standard", 1, 1.0, True, "1", [1], (1,), {1}, {1: 2})
    yield from (np.zeros(2), np.zeros(2, np.float32), torch.zeros(2), torch.zeros(2, 1))
    yield from (torch.ones(2, dtype=torch.bfloat16), np.array([None]), StainAugmenter())
    yield from (
        ImageClassifier(),
        ImageClassifier(lr=1e-2),
        ImageClassifier(augment=lambda x, g: x),
    )


def test_whatever_acts_differently_has_another_name():
    names = [fingerprint(value) for value in differing()]
    assert names == [fingerprint(value) for value in differing()]
    assert len(set(names)) == len(names)


def test_one_value_used_twice_is_like_two_equal_ones():
    shared = [1, 2]
    assert fingerprint([shared, shared]) == fingerprint([[1, 2], [1, 2]])


def test_what_decides_no_result_is_left_out():
    plain = ImageClassifier(pretrained=FCMAEPretrainer())
    verbose = ImageClassifier(pretrained=FCMAEPretrainer(verbose=True, device="cpu"), tta=True)
    assert fingerprint(plain) == fingerprint(verbose)
    assert fingerprint(plain) != fingerprint(ImageClassifier(pretrained=FCMAEPretrainer(lr=1e-4)))


def test_weights_count_by_what_their_file_holds(tmp_path):
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    name = fingerprint_of_settings({"pretrained": one})
    assert name == fingerprint_of_settings({"pretrained": str(other)})
    other.write_bytes(b"Weights")
    assert name != fingerprint_of_settings({"pretrained": other})
    assert fingerprint_of_settings({"pretrained": "none"}) != name


def test_frozen_estimators_count_by_what_they_learned():
    X = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3)).astype(np.uint8)
    options = {"image_size": 32, "decoder_dim": 8, "backbone_options": {"width": 8}}

    def fitted(seed, augment):
        model = FCMAEPretrainer(
            "resnet24", max_epochs=1, augment=augment, random_state=seed, **options
        )
        return FrozenEstimator(model.fit(X))

    # two fits that took another time are one; a function that no pickle takes does not matter
    name, again, other = (fingerprint(fitted(seed, lambda x, g: x)) for seed in (0, 0, 1))
    assert name == again != other


def test_what_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"state of a lock cannot be read.*checkpoint_dir=None"):
        fingerprint(threading.Lock())
