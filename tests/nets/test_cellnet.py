"""The network of the shipped cell classifier."""

import torch

from hemaest.nets import build_net
from hemaest.nets.cellnet import BloodCellNet, CellEncoder, standardize

SMALL = {"channels": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}


def test_standardized_channels_have_mean_zero_and_spread_one():
    x = standardize(torch.rand(3, 3, 16, 16) * torch.tensor([0.1, 1.0, 7.0]).view(1, 3, 1, 1))
    torch.testing.assert_close(x.mean(dim=(2, 3)), torch.zeros(3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(dim=(2, 3)), torch.ones(3, 3), atol=5e-2, rtol=0)


def test_lamp_and_camera_gain_make_no_difference():
    torch.manual_seed(0)
    net = BloodCellNet(4, 3, **SMALL).eval()
    x = torch.rand(2, 3, 64, 64)
    gain, offset = torch.tensor([0.5, 0.9, 1.4]).view(1, 3, 1, 1), 0.2
    one, other = net(x), net(x * gain + offset)
    torch.testing.assert_close(one.logits, other.logits, atol=2e-3, rtol=1e-2)


def test_a_blank_image_gives_finite_numbers():
    seen = BloodCellNet(4, 3, **SMALL).eval()(torch.ones(1, 3, 64, 64))
    assert all(torch.isfinite(part).all() for part in vars(seen).values())


def test_the_encoder_is_the_cellnet_that_is_built_by_name():
    built, _ = build_net("cellnet", 5, per_image=True, **SMALL)
    encoder = CellEncoder(5, per_image=True, **SMALL)
    assert built.backbone.state_dict().keys() == encoder.state_dict().keys()
    built.backbone.load_state_dict(encoder.state_dict())
    x = torch.rand(2, 3, 64, 64)
    # its own normalization undoes the one in front
    torch.testing.assert_close(built.eval()(x), encoder.eval()(x), atol=2e-3, rtol=1e-2)


def test_a_width_that_is_not_known_changes_nothing():
    torch.manual_seed(0)
    net = BloodCellNet(4, 3, **SMALL).eval()
    for part in net.scale:
        torch.nn.init.normal_(part.weight)
    x = torch.rand(3, 3, 64, 64)
    plain, known = net(x), net(x, torch.tensor([0.0, float("nan"), 16.0]))
    torch.testing.assert_close(plain.logits[:2], known.logits[:2])
    assert (plain.logits[2] - known.logits[2]).abs().max() > 1e-3
    # beyond the widest that was learned nothing changes any more
    widest, wider = (net(x, torch.full((3,), w)).logits for w in (64.0, 200.0))
    torch.testing.assert_close(widest, wider)
