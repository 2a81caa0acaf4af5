"""The autoencoder sees nothing of what is hidden, and its parts are what they are called."""

import copy

import pytest
import torch
from torch import nn

from hemaest.nets import FCMAE, build_net
from hemaest.nets.convnets import fitting_stride, lower_stride
from hemaest.nets.fcmae import VisibleBatchNorm, VisibleGRN, VisibleGroupNorm, build_fcmae, enlarge

ENCODERS = {
    "convnext": ("convnextv2_atto", {"depths": (1, 1, 2, 1), "dims": (8, 16, 16, 24)}),
    "batch": ("resnet24", {"width": 8}),
    "group": ("resnet24", {"width": 8, "norm": "group"}),
    "cellnet": (
        "cellnet",
        {"channels": (8, 8, 8, 16), "depths": (1, 1, 1, 1), "per_image": True},
    ),
}


def excited(name, image_size=64, **changes):
    """Return an autoencoder whose norms do something: as built, some start as the identity."""
    torch.manual_seed(0)
    backbone, options = ENCODERS[name]
    if backbone == "cellnet":  # whose own stride is not lowered unless that is requested
        changes = {"stride": 8, **changes}
    net = build_fcmae(backbone, image_size=image_size, decoder_dim=16, **options, **changes)
    for key, parameter in net.named_parameters():
        if "grn" in key or "norm3" in key:
            nn.init.normal_(parameter, std=0.5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def pixels(mask, side=64):
    return enlarge(mask, side, side)[:, None]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_pixels_change_nothing_that_is_seen(name, training, images):
    net = excited(name).train(training)
    mask = net.draw_mask(3, 64, torch.Generator().manual_seed(0))
    other = torch.where(pixels(mask), images, torch.rand_like(images))
    before, after = copy.deepcopy(net).encode(images, mask), net.encode(other, mask)
    assert torch.equal(before, after)
    assert not torch.equal(before, excited(name).encode(images.flip(-1), mask))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_guess_reads_seen_pixels_and_is_judged_on_hidden_ones(name, images):
    net = excited(name)
    mask = net.draw_mask(3, 64, torch.Generator().manual_seed(0))
    seen = pixels(mask).expand_as(images)
    x = images.clone().requires_grad_()
    net.decode(net.encode(x, mask), mask).sum().backward()
    assert (x.grad[~seen] == 0).all() and (x.grad[seen] != 0).any()
    guess = net.decode(net.encode(images, mask), mask)
    squares = torch.zeros(3, 8, 8)
    for i, row, column in torch.cartesian_prod(*map(torch.arange, squares.shape)):
        patch = images[i, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        truth = (patch - patch.mean()) / (patch.var() + 1e-4).sqrt()
        squares[i, row, column] = (guess[i, row, column].view(3, 8, 8) - truth).square().mean()
    for i in range(3):
        torch.testing.assert_close(net.loss(images, mask)[i], squares[i][~mask[i]].mean())


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_hidden_is_absent_like_what_lies_beyond_the_edge(name, images):
    """The left half, the right one hidden, is encoded as the left half cut out."""
    net = excited(name)
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    whole = net.encode(images, mask)
    torch.testing.assert_close(
        whole[..., :4], net.encoder.features(images[..., :32]), atol=1e-5, rtol=1e-5
    )
    assert (whole[..., 4:] == 0).all()


def test_work_that_is_left_out_changes_no_answer_and_no_gradient(images):
    sparse = excited("convnext")
    dense = copy.deepcopy(sparse)
    dense.sparse = False
    mask = sparse.draw_mask(3, 64, torch.Generator().manual_seed(0))
    for net in (sparse, dense):
        net.loss(images, mask).sum().backward()
    torch.testing.assert_close(sparse.encode(images, mask), dense.encode(images, mask))
    for one, other in zip(sparse.parameters(), dense.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_with_nothing_hidden_the_encoder_is_the_plain_net(name, images):
    net = excited(name)
    backbone, options = ENCODERS[name]
    plain, _ = build_net(backbone, 0, stride=8, **options)
    plain.load_state_dict(net.encoder.state_dict())
    torch.testing.assert_close(net(images), plain.eval().features(images))
    everything = torch.ones(3, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(net.encode(images, everything), net(images))


def test_global_response_normalization_is_what_was_defined(images):
    net = excited("convnext")
    grn = next(m for m in net.modules() if isinstance(m, VisibleGRN))
    channels = grn.weight.numel()
    x = torch.randn(2, channels, 8, 8)
    gamma, beta = (p.view(1, -1, 1, 1) for p in (grn.weight, grn.bias))

    def defined(x):
        length = x.flatten(2).norm(dim=2)[:, :, None, None]
        return gamma * (x * (length / length.mean(1, keepdim=True))) + beta + x

    torch.testing.assert_close(grn(x), defined(x), atol=1e-4, rtol=1e-4)
    mask = torch.rand(2, 8, 8) < 0.5
    with net.visible.only(mask):
        found = grn(x)
    for i in range(2):
        seen = x[i : i + 1, :, mask[i]][..., None]
        torch.testing.assert_close(
            found[i, :, mask[i]], defined(seen)[0, :, :, 0], atol=1e-4, rtol=1e-4
        )


def test_batch_and_group_norm_measure_seen_places_only():
    for name, kind in (("batch", VisibleBatchNorm), ("group", VisibleGroupNorm)):
        net = excited(name).train()
        norm = next(m for m in net.modules() if isinstance(m, kind))
        x = torch.randn(2, norm.weight.numel(), 8, 8) + 3
        mask = net.draw_mask(2, 64, torch.Generator().manual_seed(0))
        with net.visible.only(mask):
            found = norm(x)
        # the plain layer over a map that consists of the seen places
        seen = torch.stack([x[i][:, mask[i]] for i in range(2)])[..., None]
        expected = norm(seen)[..., 0]
        for i in range(2):
            torch.testing.assert_close(found[i][:, mask[i]], expected[i])


@pytest.mark.parametrize(("ratio", "seen"), [(0.6, 26), (0.75, 16), (0.999, 1), (0.001, 63)])
def test_the_requested_share_is_hidden_in_every_image(ratio, seen):
    net = excited("convnext", mask_ratio=ratio)
    mask = net.draw_mask(40, 64, torch.Generator().manual_seed(0))
    assert (mask.sum((1, 2)) == seen).all()
    # every place is as likely
    if ratio == 0.6:
        share = net.draw_mask(2000, 64, torch.Generator().manual_seed(0)).float().mean(0)
        assert (share - 26 / 64).abs().max() < 0.05


def test_coarser_patches_are_hidden_whole(images):
    net = excited("convnext", patch_size=16)
    mask = net.draw_mask(3, 64, torch.Generator().manual_seed(0))
    assert mask.shape == (3, 4, 4)
    other = torch.where(pixels(mask), images, 0.0)
    assert torch.equal(net.encode(images, mask), net.encode(other, mask))
    painted = net.reconstruct(images, mask)
    seen = pixels(mask).expand_as(images)
    assert torch.equal(painted[seen], images[seen])
    # a patch is painted in at its own brightness
    torch.testing.assert_close(net.patches(painted).shape, net.patches(images).shape)


def patch_loss(net, guess, images, mask):
    """Compare a guess at normalized pixels patch by patch, as the loss is defined."""
    side, places = net.patch_size, net.patch_size // net.stride
    guess = nn.functional.pixel_shuffle(guess.permute(0, 3, 1, 2), net.stride)
    losses = []
    for i in range(len(images)):
        errors = []
        for row, column in (~mask[i]).nonzero() * side:
            square = (i, slice(None), slice(row, row + side), slice(column, column + side))
            truth = images[square] - images[square].mean()
            truth = truth / (images[square].var() + 1e-4).sqrt()
            errors.append((guess[square] - truth).square().mean())
        losses.append(torch.stack(errors).mean())
    assert mask.shape[1] * places == guess.shape[-1] // net.stride
    return torch.stack(losses)


@pytest.mark.parametrize("patch_size", [8, 16, 32])
def test_a_patch_is_compared_after_its_own_mean_and_spread(patch_size, images):
    """Also where it has several places of the last map."""
    net = excited("convnext", patch_size=patch_size)
    mask = net.draw_mask(3, 64, torch.Generator().manual_seed(0))
    guess = net.decode(net.encode(images, mask), mask)
    torch.testing.assert_close(net.loss(images, mask), patch_loss(net, guess, images, mask))
    truth, mean, spread = net.normalized(images)
    assert truth.shape[:3] == mean.shape[:3] == spread.shape[:3] == (3, 8, 8)
    torch.testing.assert_close(truth * spread + mean, net.patches(images))
    # brightness and contrast of a whole patch do not count
    bright = enlarge(torch.rand(3, 64 // patch_size, 64 // patch_size) * 0.5 + 0.5, 64, 64)
    other = net.normalized(images * bright[:, None] + 0.1)[0]
    torch.testing.assert_close(other, truth, atol=1e-2, rtol=1e-2)


def test_half_precision_does_not_overflow_where_work_is_left_out(images):
    sparse = excited("convnext")
    with torch.no_grad():
        for key, parameter in sparse.named_parameters():
            if key.endswith("mlp.fc1.weight"):
                parameter.mul_(4000)
            if key.endswith("mlp.fc2.weight"):
                parameter.div_(4000)
    dense = copy.deepcopy(sparse)
    dense.sparse = False
    mask = sparse.draw_mask(3, 64, torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        found, expected = sparse.loss(images, mask), dense.loss(images, mask)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_the_stride_is_lowered_until_there_are_six_by_six_patches():
    for size in (32, 48, 64, 96, 128, 160, 192, 224):
        assert size // fitting_stride(size) >= 6
        assert fitting_stride(size) == 32 or size // (2 * fitting_stride(size)) < 6
    for name, (backbone, options) in ENCODERS.items():
        for stride in (4, 8, 16, 32):
            net, _ = build_net(backbone, 0, stride=stride, **options)
            assert net.eval().features(torch.zeros(1, 3, 64, 64)).shape[-1] == 64 // stride, name
            assert net.backbone.feature_info[-1]["reduction"] == stride
        plain, _ = build_net(backbone, 0, **options)
        shapes = [(k, v.shape) for k, v in plain.state_dict().items()]
        assert shapes == [(k, v.shape) for k, v in net.state_dict().items()]
    with pytest.raises(ValueError, match="must be one of 32, 16, 8, 4"):
        lower_stride(net.backbone, 5)
    with pytest.raises(ValueError, match="not for VisionTransformer"):
        build_net("vit_tiny_patch16_224", 0, stride=8)


def test_the_cellnet_keeps_the_stride_that_its_weights_were_trained_with():
    net = build_fcmae("cellnet", image_size=96)
    assert net.stride == net.patch_size == 32
    assert net.draw_mask(2, 96, torch.Generator().manual_seed(0)).shape == (2, 3, 3)
    around, _ = build_net("wpat", 3, image_size=96, convnet="cellnet")
    assert around.backbone.encoder.feature_info[-1]["reduction"] == 32
    assert around(torch.rand(2, 3, 96, 96)).shape == (2, 3)


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(ValueError, match="hidden pixels would leak; take 8"):
        excited("convnext", patch_size=4)
    with pytest.raises(ValueError, match="take 96 or 112"):
        excited("convnext", image_size=100)
    with pytest.raises(ValueError, match="not ResNet"):
        FCMAE(build_net("resnet10t", 0)[0], patch_size=8)
    with pytest.raises(ValueError, match="not ConvNeXt"):
        FCMAE(build_net("convnext_atto", 0)[0], patch_size=32)
