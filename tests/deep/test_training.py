import inspect
import os
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback

from hemaest.deep import ImageClassifier
from hemaest.deep.optimization import BatchTooLarge
from hemaest.deep.training import TrainingDiverged
from hemaest.groups import copy_codes
from hemaest.recipes import ImagePipeline


def small(**changes):
    params = {
        "backbone": "cellnet",
        "backbone_options": {"channels": (8, 8, 16, 16)},
        "image_size": 32,
        "max_epochs": 4,
        "batch_size": 8,
        "lr": 3e-3,
        "random_state": 0,
    }
    return ImageClassifier(**(params | changes))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(["dark", "pale"], [24, 16])
    X = rng.integers(0, 90, (40, 32, 32, 3)).astype(np.uint8)
    X[y == "pale"] += 100
    return X, y, np.arange(40) // 2


class CopySampler:
    """Append copies of some images, and remember what it was given."""

    seen: list = []

    def get_params(self, deep=False):
        return {}

    def __sklearn_clone__(self):
        return self

    def fit_resample(self, X, y):
        self.seen.append(X)
        rows = np.r_[np.arange(len(y)), np.arange(10)]
        self.sample_indices_ = rows
        return X[rows], y[rows]


class At(Callback):
    """Do something at a batch of an epoch."""

    def __init__(self, epoch, batch, action):
        self.epoch, self.batch, self.action = epoch, batch, action

    def on_epoch_begin(self, net, **kwargs):
        self.count_ = 0

    def on_batch_end(self, net, training=False, **kwargs):
        self.count_ += training
        if training and len(net.history) == self.epoch and self.count_ == self.batch:
            self.action(net)


def weights(model):
    return joblib.hash({k: v.numpy() for k, v in model.net_.module_.state_dict().items()})


def test_nothing_is_held_out_unrequested(data):
    X, y, groups = data
    model = small(max_epochs=1).fit(X, y, groups)
    assert model.held_out_ is None and "valid_loss" not in model.history_


def test_hold_out_splits_no_group_and_no_copies(data):
    X, y, groups = data
    X = np.concatenate([X, X[:12]])
    y = np.r_[y, y[:12]]
    groups = np.r_[groups, 100 + np.arange(12)]  # the copies pose as other patients
    model = small(max_epochs=1, early_stopping=True, validation_fraction=0.25).fit(X, y, groups)
    held = model.held_out_
    kept = np.setdiff1d(np.arange(len(y)), held)
    assert 0 < len(held) < len(kept)
    assert not set(groups[held]) & set(groups[kept])
    codes = copy_codes(X)
    assert not set(codes[held]) & set(codes[kept])


def test_resampling_comes_after_the_hold_out(data):
    X, y, groups = data
    sampler = CopySampler()
    sampler.seen = []
    model = small(max_epochs=1, early_stopping=True, resampler=sampler).fit(X, y, groups)
    (given,) = sampler.seen
    assert len(given) == len(X) - len(model.held_out_)
    both = copy_codes(np.concatenate([given, X[model.held_out_]]))
    assert not set(both[: len(given)]) & set(both[len(given) :])


def test_behind_a_sampler_nothing_is_held_out_and_it_says_so(data):
    X, y, groups = data
    pipeline = ImagePipeline(
        [("balance", CopySampler()), ("classify", small(max_epochs=1, early_stopping=True))]
    )
    with pytest.warns(UserWarning, match="early stopping is off"):
        pipeline.fit(X, y, groups=groups)
    assert pipeline[-1].held_out_ is None


def test_resampler_and_weights(data):
    X, y, _ = data
    weight = np.linspace(1, 2, len(y))
    small(max_epochs=1, resampler=CopySampler()).fit(X, y, sample_weight=weight)
    rows = np.arange(len(y))

    class Rows(CopySampler):
        def fit_resample(self, X, y):
            return X[rows], y[rows]

    with pytest.raises(ValueError, match="where the images come from"):
        small(max_epochs=1, resampler=Rows()).fit(X, y, sample_weight=weight)
    assert not hasattr(RandomOverSampler(), "sample_indices_")


def test_balanced_sampling_draws_classes_alike(data):
    X, y, _ = data
    drawn = []

    class Count(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            drawn.extend(batch[1][0].tolist())

    small(max_epochs=20, resampler="balanced", callbacks=[Count()]).fit(X, y)
    share = np.mean(drawn)
    assert abs(share - 0.5) < 0.07 < abs(np.mean(y == "pale") - 0.5)


def test_validation_sees_no_augmentation(data):
    """The best epoch's loss is what the final weights give on the images as they are."""
    X, y, groups = data

    def paint(images, generator):
        return torch.rand(images.shape, generator=generator)

    model = small(early_stopping=True, augment=paint).fit(X, y, groups)
    held = model.held_out_
    proba = model.predict_proba(X[held])
    loss = -np.log(proba[np.arange(len(held)), np.searchsorted(model.classes_, y[held])]).mean()
    history = model.history_
    assert np.isclose(history["valid_loss"].min(), loss, rtol=1e-4)
    assert history["best"].iloc[history["valid_loss"].argmin()]


def test_early_stopping_stops(data):
    X, y, groups = data
    y = np.random.default_rng(0).permutation(y)
    model = small(early_stopping=True, patience=2, max_epochs=60).fit(X, y, groups)
    history = model.history_
    assert len(history) == history["valid_loss"].argmin() + 1 + 2


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(data, tmp_path, early_stopping):
    X, y, groups = data
    options = {"early_stopping": early_stopping, "patience": 2, "augment": "strong", "mixup": 0.2}

    class Killed(BaseException):
        pass

    def kill(net):
        raise Killed

    expected = small(**options).fit(X, y, groups)
    for epoch, batch in ((1, 2), (2, 1), (4, 3)):
        with pytest.raises(Killed):
            small(**options, checkpoint_dir=tmp_path, callbacks=[At(epoch, batch, kill)]).fit(
                X, y, groups
            )
    again = small(**options, checkpoint_dir=tmp_path).fit(X, y, groups)
    assert weights(again) == weights(expected)
    columns = ["epoch", "train_loss", "lr"]
    assert again.history_[columns].equals(expected.history_[columns])
    # another fold, or another setting, is another run
    small(**options, checkpoint_dir=tmp_path).fit(X[2:], y[2:], groups[2:])
    small(**{**options, "mixup": 0.1}, checkpoint_dir=tmp_path).fit(X, y, groups)
    assert len(list(tmp_path.glob("*.ckpt"))) == 3 and not list(tmp_path.glob("*.part"))


def test_an_unseeded_run_continues_with_the_seed_it_began_with(data, tmp_path):
    X, y, _ = data
    first = small(random_state=None, checkpoint_dir=tmp_path).fit(X, y)
    assert weights(small(random_state=None, checkpoint_dir=tmp_path).fit(X, y)) == weights(first)


def test_functions_and_weights_that_changed_make_another_run(data, tmp_path):
    X, y, _ = data

    def proba(**changes):
        return small(max_epochs=1, **changes).fit(X, y).predict_proba(X)

    for augment in (lambda x, g: x, lambda x, g: 1 - x):
        kept = proba(augment=augment, checkpoint_dir=tmp_path / "runs")
        np.testing.assert_array_equal(kept, proba(augment=augment))
    path = tmp_path / "weights.pth"
    for seed in (1, 2):
        start = small(max_epochs=0, random_state=seed).fit(X, y).net_.module_.backbone
        torch.save(start.state_dict(), path)
        kept = proba(pretrained=path, checkpoint_dir=tmp_path / "runs")
        np.testing.assert_array_equal(kept, proba(pretrained=path))
    assert len(list(tmp_path.glob("runs/*.ckpt"))) == 4


def test_a_killed_warm_fit_continues_and_spoils_nothing(data, tmp_path):
    X, y, _ = data

    class Killed(BaseException):
        pass

    def kill(net):
        raise Killed

    options = {"warm_start": True, "max_epochs": 2}
    expected = small(**options).fit(X, y).fit(X, y)
    model = small(**options, checkpoint_dir=tmp_path).fit(X, y)
    good, history = weights(model), model.history_
    # killed in the second epoch of the second fit
    model.set_params(callbacks=[At(4, 1, kill)])
    with pytest.raises(Killed):
        model.fit(X, y)
    assert weights(model) == good and model.history_.equals(history)
    seen = []
    model.set_params(callbacks=[At(4, 1, seen.append), At(3, 1, seen.append)]).fit(X, y)
    assert len(seen) == 1
    assert weights(model) == weights(expected)
    columns = ["epoch", "train_loss", "lr"]
    assert model.history_[columns].equals(expected.history_[columns])


def interrupt(net):
    raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupted_fit_raises_and_looks_unfitted(data, early_stopping):
    X, y, groups = data
    options = {"max_epochs": 4, "early_stopping": early_stopping, "verbose": True}
    model = small(callbacks=[At(3, 1, interrupt)], **options)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, groups)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert not [name for name in vars(model) if name.endswith("_")]
    # the interrupt leaves nothing behind in the process
    again = model.set_params(callbacks=None).fit(X, y, groups)
    assert weights(again) == weights(small(**options).fit(X, y, groups))


def test_an_interrupted_part_of_a_stream_leaves_the_model_as_it_was(data):
    X, y, _ = data
    parts = [slice(0, 30), slice(10, 40)]
    expected, model = small(), small()
    for part in parts:
        expected.partial_fit(X[part], y[part], classes=["dark", "pale"])
    with pytest.raises(KeyboardInterrupt):
        model.set_params(callbacks=[At(1, 2, interrupt)]).partial_fit(
            X, y, classes=["dark", "pale"]
        )
    assert not hasattr(model, "net_")
    model.set_params(callbacks=None).partial_fit(X[parts[0]], y[parts[0]], classes=["dark", "pale"])
    before, history = weights(model), model.history_
    with pytest.raises(KeyboardInterrupt):
        model.set_params(callbacks=[At(2, 2, interrupt)]).partial_fit(X[parts[1]], y[parts[1]])
    assert weights(model) == before and model.history_.equals(history)
    model.set_params(callbacks=None).partial_fit(X[parts[1]], y[parts[1]])
    assert weights(model) == weights(expected)


def fit_files(folder, max_epochs, callbacks=None):
    """Fit on ragged images, so that threads read ahead; checkpoints go to the folder."""
    import numpy as np

    from hemaest.deep import ImageClassifier
    from hemaest.images import to_object_array

    rng = np.random.default_rng(0)
    y = np.repeat(["dark", "pale"], 32)
    X = rng.integers(0, 90, (64, 40, 40, 3)).astype(np.uint8)
    X[y == "pale"] += 100
    options = {"backbone_options": {"channels": (8, 8, 16, 16)}, "callbacks": callbacks}
    model = ImageClassifier(
        "cellnet",
        image_size=32,
        max_epochs=max_epochs,
        batch_size=8,
        checkpoint_dir=folder,
        random_state=0,
        **options,
    )
    model.fit(to_object_array(list(X)), y)
    print("fitted", len(model.history_), flush=True)
    return model


SLOW = """
import time
from skorch.callbacks import Callback

class Slow(Callback):
    def on_batch_end(self, net, **kwargs):
        time.sleep(0.2)

callbacks = [Slow()]
"""


def interrupted_run(folder, call):
    """Start a fit in a process, send SIGINT once there is a checkpoint; return code and output."""
    code = f"{inspect.getsource(fit_files)}\n{SLOW}\n{call}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.glob("*.ckpt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for other processes")
@pytest.mark.parametrize("call", ["10**6", "6, callbacks"], ids=["in torch", "in a callback"])
def test_a_real_interrupt_stops_the_process_and_the_same_fit_continues(tmp_path, call):
    code, out, err = interrupted_run(tmp_path, f"import sys; fit_files(sys.argv[1], {call})")
    # the KeyboardInterrupt reached the top, and Python ended by the signal itself: no abort
    assert code == -signal.SIGINT, err
    assert "KeyboardInterrupt" in err and "fitted" not in out
    (checkpoint,) = tmp_path.glob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["history"]
    if call.startswith("6"):
        resumed, expected = fit_files(tmp_path, 6), fit_files(None, 6)
        assert list(tmp_path.glob("*.ckpt")) == [checkpoint]
        assert weights(resumed) == weights(expected)


def test_a_loss_that_is_no_number_stops_with_good_weights(data):
    X, y, _ = data
    calls = []

    def poison(images, generator):
        calls.append(1)
        return images * (float("nan") if len(calls) == 12 else 1.0)

    model = small(augment=poison)
    with pytest.raises(TrainingDiverged, match="epoch 3; .*lower lr"):
        model.fit(X, y)
    assert len(model.history_) == 2
    assert np.isfinite(model.predict_proba(X)).all()


def test_out_of_memory_names_a_batch_size_that_fits(data):
    X, y, _ = data

    def hungry(images, generator):
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images

    model = small(augment=hungry, batch_size=16)
    with pytest.raises(BatchTooLarge, match="batch_size=4 fits"):
        model.fit(X, y)
    assert not hasattr(model, "net_")


def changed(model, start):
    """Return the names of all weights and statistics that are not what they were."""
    state = model.net_.module_.state_dict()
    return {name for name, value in state.items() if not torch.equal(value, start[name])}


HEAD = {"backbone.fc.weight", "backbone.fc.bias"}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("ema", [False, True])
def test_frozen_epochs_leave_the_backbone_alone(data, ema, early_stopping):
    """Its statistics too: by them the last layer saw what it learned from."""
    X, y, groups = data
    start = small(max_epochs=0).fit(X, y).net_.module_.state_dict()
    options = {"freeze_epochs": 2, "ema": ema, "early_stopping": early_stopping}
    frozen = small(max_epochs=2, **options).fit(X, y, groups)
    assert changed(frozen, start) == HEAD
    assert all(parameter.requires_grad for parameter in frozen.net_.module_.parameters())
    free = small(max_epochs=3, **options).fit(X, y, groups)
    assert {name for name in start if "running" in name} < changed(free, start) or early_stopping


def test_what_is_learned_over_frozen_epochs_is_what_predicts(data):
    """A microscope far from that of the frozen weights: loss in training and after agree."""
    X, y, _ = data
    start = FrozenEstimator(small(max_epochs=6).fit(X, y))
    options = {"augment": None, "label_smoothing": 0.0, "ema": False, "warmup": 0.0}
    model = small(pretrained=start, max_epochs=30, freeze_epochs=30, batch_size=40, **options).fit(
        (X * 0.4).astype(np.uint8), y
    )
    proba = model.predict_proba((X * 0.4).astype(np.uint8))
    loss = -np.log(proba[np.arange(len(y)), np.searchsorted(model.classes_, y)]).mean()
    assert loss == pytest.approx(model.history_["train_loss"].iloc[-1], rel=1e-2)


def test_frozen_epochs_are_counted_from_the_beginning_of_each_fit(data):
    X, y, _ = data
    model = small(max_epochs=2, warm_start=True).fit(X, y)
    start = model.net_.module_.state_dict()
    assert changed(model.set_params(freeze_epochs=2).fit(X, y), start) == HEAD
    # a stream is one run, however many parts it comes in
    stream = small(freeze_epochs=2)
    start = small(max_epochs=0).fit(X, y).net_.module_.state_dict()
    for only_head in (True, True, False):
        stream.partial_fit(X, y, classes=["dark", "pale"])
        assert (changed(stream, start) == HEAD) == only_head


def test_the_rate_rises_and_falls_and_lower_layers_learn_slower(data):
    X, y, _ = data
    rates = []

    class Watch(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            rates.append([group["lr"] for group in net.optimizer_.param_groups])

    model = small(layer_decay=0.5, warmup=0.25, lr=1e-2, max_epochs=8, callbacks=[Watch()])
    model.fit(X, y)
    highest = np.max(rates, axis=1)
    assert highest.argmax() in (9, 10) and highest.max() == pytest.approx(1e-2)
    assert highest[0] == pytest.approx(1e-3) and highest[-1] < 3e-4
    scales = sorted({round(r / max(rates[5]), 6) for r in rates[5]})
    assert scales[0] < 0.2 and 0.5 in scales and scales[-1] == 1


def test_any_number_of_images_leaves_no_batch_of_one(data):
    X, y, groups = data
    for n in (2, 9, 17, 33):
        rows = np.r_[: n - 1, 39]
        small(max_epochs=1).fit(X[rows], y[rows])
        if n > 2:
            small(max_epochs=1, early_stopping=True).fit(X[rows], y[rows], groups[rows])


def test_a_stream_keeps_the_statistics_of_what_came_before(data):
    X, y, _ = data
    model = small(max_epochs=3).fit(X, y)
    norm = model.net_.module_.backbone.bn1
    before = norm.running_mean.clone()
    model.partial_fit(np.full_like(X[:8], 255), y[:8])
    white = model.adapt_batchnorm(np.full_like(X[:8], 255)).net_.module_.backbone.bn1.running_mean
    moved = (norm.running_mean - before).abs().sum() / (white - before).abs().sum()
    assert 0 < moved < 0.2


@pytest.mark.slow
def test_after_a_long_training_batch_norm_knows_more_images():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 60, (320, 32, 32, 3)).astype(np.uint8)
    X += rng.integers(0, 190, (320, 1, 1, 3)).astype(np.uint8)
    y = rng.integers(0, 2, 320)
    away = []
    for epochs in (2, 50):
        tiny = {"channels": (4, 4, 8, 8)}
        model = small(backbone_options=tiny, batch_size=40, max_epochs=epochs, augment=None)
        net = model.fit(X, y).net_
        norm = net.module_.backbone.conv1[1]
        seen = []
        norm.register_forward_hook(lambda module, given, result, seen=seen: seen.append(given[0]))
        with torch.inference_mode():
            net.module_(net.prepare(torch.from_numpy(X)))
        away.append(float((norm.running_mean - seen[0].mean((0, 2, 3))).abs().max()))
    assert away[1] < 1e-5 < 1e-3 < away[0]


def test_settings_change_what_is_learned(data):
    X, y, _ = data
    plain = small(max_epochs=2).fit(X, y).predict_proba(X)
    for change in ({"ema": False}, {"clip_norm": 1e-3}, {"cutmix": 1.0}, {"weight_decay": 5.0}):
        assert (small(max_epochs=2, **change).fit(X, y).predict_proba(X) != plain).any(), change


def test_adapted_statistics_undo_a_change_of_color(data):
    X, y, _ = data
    model = small(max_epochs=10, augment=None).fit(X, y)
    other_lab = (X * 0.5 + 110).astype(np.uint8)
    adapted = model.adapt_batchnorm(other_lab)
    assert adapted.score(other_lab, y) > model.score(other_lab, y)
    assert model.score(X, y) == 1  # the model itself stays as it was
    group_norm = ImageClassifier(
        "resnet24", backbone_options={"width": 8, "norm": "group"}, image_size=32, max_epochs=0
    )
    with pytest.raises(ValueError, match="no batch norm"):
        group_norm.fit(X, y).adapt_batchnorm(X)


def test_progress_bar_is_drawn_when_requested(data, capsys):
    X, y, groups = data
    small(max_epochs=2, verbose=True, early_stopping=True).fit(X, y, groups)
    first = capsys.readouterr()
    assert first.out == "" and "epochs: about 10 s" in " ".join(first.err.split())
    small(max_epochs=1, verbose=False).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_history_is_drawn(data):
    import matplotlib

    matplotlib.use("agg")
    X, y, groups = data
    ax = small(max_epochs=2, early_stopping=True).fit(X, y, groups).plot_history()
    assert len(ax.lines[0].get_xdata()) == 2
    matplotlib.pyplot.close(ax.figure)
