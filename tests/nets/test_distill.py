"""Self-distillation: what is hidden, who learns, who follows, and what is held fixed."""

import pytest
import torch

from hemaest.nets import build_net
from hemaest.nets.cellnet import BloodCellNet
from hemaest.nets.distill import SelfDistillation, TypeMatching


@pytest.fixture
def net():
    torch.manual_seed(0)
    encoder, _ = build_net(
        "cellnet", 0, channels=(8, 8, 8, 16), depths=(1, 1, 1, 1), per_image=True
    )
    return SelfDistillation(encoder, patch_size=8, mask_ratio=0.3, momentum=0.9, hidden=16)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_hidden_patches_have_the_mean_of_what_is_seen(net):
    x = torch.rand(64, 3, 36, 36, generator=generator(1))
    views = net.hide(x, generator())
    seen = (views == x).all(1)
    assert 0.6 < seen.float().mean() < 0.8
    for image, view, mask in zip(x, views, seen, strict=True):
        mean = image[:, mask].mean(1)
        torch.testing.assert_close(view[:, ~mask], mean[:, None].expand(-1, (~mask).sum()))
    # whole patches, also those that the border cuts
    cells = seen[:, 32:, 32:]
    assert torch.equal(cells, cells[:, :1, :1].expand_as(cells))


def test_the_student_learns_and_the_others_do_not(net):
    x = torch.rand(8, 3, 64, 64, generator=generator())
    target = net.targets(x)
    torch.testing.assert_close(target.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    (net.losses(x, target).mean() + net.forgotten(x)).backward()
    assert all(p.grad is not None for p in net.encoder.parameters())
    assert all(p.grad is None for n in (net.teacher, net.anchor) for p in n.parameters())


def test_the_teacher_is_the_moving_average_of_the_student(net):
    before = {name: p.clone() for name, p in net.teacher.state_dict().items()}
    with torch.no_grad():
        for p in net.encoder.parameters():
            p.add_(torch.randn_like(p))
    net.follow()
    now = net.encoder.state_dict()
    for name, value in net.teacher.state_dict().items():
        if value.dtype.is_floating_point:
            torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * now[name])
    anchor = net.anchor.state_dict()
    assert all(torch.equal(anchor[name], value) for name, value in before.items())


def test_nothing_is_forgotten_until_something_is_learned(net):
    x = torch.rand(8, 3, 64, 64, generator=generator())
    net.eval()
    assert net.forgotten(x) == 0
    with torch.no_grad():
        net.encoder.backbone.conv1[0].weight.neg_()
    assert net.forgotten(x) > 0


def test_statistics_of_batch_norms_stay_while_the_student_trains(net):
    x = torch.rand(8, 3, 64, 64, generator=generator())
    net.train()
    before = {name: value.clone() for name, value in net.encoder.named_buffers()}
    assert net.forgotten(x) == 0
    net.losses(x, net.targets(x))
    assert all(torch.equal(before[name], now) for name, now in net.encoder.named_buffers())


@pytest.fixture
def matching():
    torch.manual_seed(0)
    tiny = BloodCellNet(5, 3, channels=(8, 8, 8, 16), depths=(1, 1, 1, 1))
    return TypeMatching(tiny, patch_size=8, momentum=0.9).train()


def test_only_the_student_learns_types(matching):
    x = torch.rand(8, 3, 64, 64, generator=generator())
    target = matching.targets(x)
    torch.testing.assert_close(target.sum(1), torch.ones(8))
    (matching.losses(x, target).mean() + matching.forgotten(x)).backward()
    encoder = matching.student.encoder
    assert all(p.grad is not None for p in encoder.parameters())
    others = (matching.teacher, matching.anchor)
    assert all(p.grad is None for net in others for p in net.parameters())


def test_an_image_that_no_type_fits_is_left_out(matching):
    x = torch.rand(2, 3, 64, 64, generator=generator())
    unsure, sure = torch.full((5,), 0.2), torch.tensor([0.9, 0.1, 0, 0, 0])
    losses = matching.losses(x, torch.stack([unsure, sure]))
    assert losses[0] == 0 and losses[1] > 0


def test_the_anchor_forgets_nothing_in_training_mode(matching):
    assert matching.student.training and matching.teacher.training
    assert not matching.anchor.training
    before = {k: v.clone() for k, v in matching.anchor.state_dict().items()}
    matching.forgotten(torch.rand(4, 3, 64, 64, generator=generator()))
    assert all(torch.equal(before[k], v) for k, v in matching.anchor.state_dict().items())
