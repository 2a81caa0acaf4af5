import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hemaest.deep import ImageClassifier
from hemaest.deep.optimization import classification_losses, log_prior, smoothed_targets


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(9, 4), torch.randint(4, (9,))


def test_cross_entropy_is_torch_s_own(batch):
    logits, target = batch
    expected = F.cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(classification_losses(logits, target, label_smoothing=0.1), expected)


def test_focal_loss_against_its_formula(batch):
    logits, target = batch
    share = logits.softmax(dim=1).gather(1, target[:, None])[:, 0]
    expected = -((1 - share) ** 2) * share.log()
    torch.testing.assert_close(classification_losses(logits, target, loss="focal"), expected)
    mixed = classification_losses(logits, F.one_hot(target, 4).float(), loss="focal")
    torch.testing.assert_close(mixed, expected)


def test_smoothed_targets_are_shares(batch):
    _, target = batch
    shares = smoothed_targets(target, 4, 0.2)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(9))
    assert torch.equal(shares.argmax(dim=1), target)


def test_logit_adjustment_learns_the_ratio_and_not_the_prior():
    # one constant feature: what is learned is the prior, unless it is added
    target = torch.tensor([0] * 90 + [1] * 10)
    prior = log_prior(target, torch.ones(100), 2)
    torch.testing.assert_close(prior.exp(), torch.tensor([0.9, 0.1]))
    for loss, expected in (("cross-entropy", 0.9), ("logit-adjusted", 0.5)):
        bias = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.LBFGS([bias], max_iter=50)

        def step(loss=loss, bias=bias, optimizer=optimizer):
            optimizer.zero_grad()
            each = classification_losses(bias.expand(100, 2), target, loss=loss, log_prior=prior)
            each.mean().backward()
            return each.mean()

        optimizer.step(step)
        assert bias.softmax(0)[0].item() == pytest.approx(expected, abs=1e-3)


def test_weights_count_in_the_prior():
    prior = log_prior(torch.tensor([0, 1]), torch.tensor([3.0, 1.0]), 3)
    assert prior[0] > prior[1] > prior[2] > -np.inf


def net(**changes):
    params = {
        "backbone_options": {"channels": (8, 8, 16, 16)},
        "image_size": 16,
        "max_epochs": 8,
        "batch_size": 8,
        "lr": 3e-3,
        "augment": None,
        "precision": "float32",
        "device": "cpu",
        "random_state": 0,
    }
    return ImageClassifier("cellnet", **(params | changes))


@pytest.fixture(scope="module")
def noise():
    """Images that say nothing of their label, 44 of one class and 4 of the other."""
    X = np.random.default_rng(0).integers(90, 160, (48, 16, 16, 3)).astype(np.uint8)
    return X, np.repeat(["often", "rare"], [44, 4])


def test_a_net_with_the_adjusted_loss_forgets_the_prior(noise):
    X, y = noise
    fresh = np.random.default_rng(1).integers(90, 160, (40, 16, 16, 3)).astype(np.uint8)
    rare = {
        loss: net(loss=loss).fit(X, y).predict_proba(fresh)[:, 1].mean()
        for loss in ("cross-entropy", "logit-adjusted", "focal")
    }
    assert rare["cross-entropy"] < 0.3 < rare["logit-adjusted"]
    assert rare["focal"] < 0.4


def test_two_corrections_are_refused(noise):
    X, y = noise
    for other in ({"class_weight": "balanced"}, {"resampler": "balanced"}):
        with pytest.raises(ValueError, match=r"loss='logit-adjusted' both correct"):
            net(loss="logit-adjusted", **other).fit(X, y)
    net(loss="focal", class_weight="balanced", max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="partial_fit does not know"):
        net(loss="logit-adjusted").partial_fit(X, y, classes=["often", "rare"])
    with pytest.raises(ValueError, match="Did you mean 'focal'"):
        net(loss="focl").fit(X, y)


def test_early_stopping_watches_every_loss(noise):
    X, y = noise
    for loss in ("focal", "logit-adjusted"):
        model = net(loss=loss, early_stopping=True, validation_fraction=0.3, max_epochs=2)
        assert np.isfinite(model.fit(X, y).history_["valid_loss"]).all()
