"""One fit in two processes: real ones, over gloo, that meet at a file."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from hemaest.deep import FCMAEPretrainer, ImageClassifier

SCRIPT = """
import hashlib, json, os, pickle, sys
import numpy as np
from torch import distributed
from skorch.callbacks import Callback

sys.path.insert(0, sys.argv[1])
from test_distributed import data, make

rank, folder, kind, dies = int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5] == "dies"
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
written = []
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).endswith(".part")
                 and written.append(args[0]))

class Die(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if rank == 1 and len(net.history) == 2:
            os._exit(9)

X, y = data()
model = make(kind, 8, checkpoint_dir=folder + "/state", callbacks=[Die()] if dies else None)
model.fit(X, y)
again = pickle.loads(pickle.dumps(model))
out = again.transform(X)
print(json.dumps({
    "loss": model.history_["train_loss"].tolist(), "written": len(written),
    "embedding": out.tolist(), "epochs": len(model.history_),
}))
"""


def data():
    """Dark and pale noise; 33 images, so that the parts of the last batch are odd."""
    rng = np.random.default_rng(0)
    y = np.repeat(["dark", "pale"], [17, 16])
    X = rng.integers(0, 90, (33, 32, 32, 3)).astype(np.uint8)
    X[y == "pale"] += 100
    return X, y


def make(kind, batch_size, **changes):
    """Return an estimator without batch norm and augmentation, which differ between parts."""
    common = {
        "image_size": 32,
        "max_epochs": 3,
        "batch_size": batch_size,
        "augment": None,
        "device": "cpu",
        "random_state": 0,
        "verbose": False,
        **changes,
    }
    if kind == "classifier":
        options = {"width": 8, "norm": "group"}
        return ImageClassifier("resnet24", backbone_options=options, **common)
    options = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    return FCMAEPretrainer(backbone_options=options, decoder_dim=16, **common)


def run_two(tmp_path, kind, dies=False):
    """Return the two finished processes, with their outputs."""
    here = str(__file__).rsplit("/", 1)[0]
    how = "dies" if dies else "lives"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, here, str(rank), str(tmp_path), kind, how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=250) for process in processes]
    return [(p.returncode, *out) for p, out in zip(processes, outputs, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "pretrainer"])
def test_two_processes_train_as_one_with_the_doubled_batch(tmp_path, kind):
    results = run_two(tmp_path, kind)
    assert [code for code, *_ in results] == [0, 0], results
    first, second = (json.loads(out.splitlines()[-1]) for _, out, _ in results)
    assert first["embedding"] == second["embedding"] and first["loss"] == second["loss"]
    # one process writes checkpoints
    assert first["written"] and not second["written"]
    assert len(list(tmp_path.glob("state/*.ckpt"))) == 1
    X, y = data()
    alone = make(kind, 16).fit(X, y)
    if kind == "classifier":
        np.testing.assert_allclose(first["loss"], alone.history_["train_loss"], rtol=1e-3)
        np.testing.assert_allclose(first["embedding"], alone.transform(X), rtol=0.02, atol=1e-3)
    else:
        # each process draws masks of its own
        np.testing.assert_allclose(first["loss"], alone.history_["train_loss"], rtol=0.1)


@pytest.mark.slow
def test_the_death_of_a_process_is_named_and_the_fit_continues_later(tmp_path):
    start = time.monotonic()
    (code, _, error), (killed, *_) = run_two(tmp_path, "classifier", dies=True)
    assert killed == 9 and code == 1
    assert "ProcessLostError: process 0 of 2 lost another process" in error, error
    assert time.monotonic() - start < 240
    (tmp_path / "meet").unlink(missing_ok=True)
    results = run_two(tmp_path, "classifier")
    assert [code for code, *_ in results] == [0, 0], results
    resumed = json.loads(results[0][1].splitlines()[-1])
    X, y = data()
    alone = make("classifier", 16).fit(X, y)
    np.testing.assert_allclose(resumed["loss"], alone.history_["train_loss"], rtol=1e-3)
