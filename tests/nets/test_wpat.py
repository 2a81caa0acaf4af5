"""Windows, shifts and borders of the windowed patch attention transformer."""

import numpy as np
import pytest
import torch

from hemaest.nets import WPAT, ResNet24, build_net
from hemaest.nets.wpat import WindowAttention, from_windows, to_windows, window_grid

TINY = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 24)}


def influence(attention, side, row, column):
    """Return which places of a map see the place (row, column)."""
    x = torch.zeros(1, side, side, 8)
    other = x.clone()
    other[0, row, column] = torch.randn(8) * 3
    return ((attention(x) - attention(other)).abs().sum(-1) > 1e-7)[0]


def plain_attention(attention, x, side):
    """Attention written as loops over windows, for one image and no shift."""
    window = window_grid(side, attention.window_size)[0]
    qkv = attention.qkv(x)[0]
    out = torch.zeros(side, side, x.shape[-1])
    width = x.shape[-1] // attention.heads
    middle = attention.window_size - 1
    for top in range(0, side, window):
        for left in range(0, side, window):
            places = [
                (r, c)
                for r in range(top, min(top + window, side))
                for c in range(left, min(left + window, side))
            ]
            for head in range(attention.heads):
                part = slice(head * width, (head + 1) * width)
                q, k, v = (
                    torch.stack([t[r, c, part] for r, c in places])
                    for t in qkv.split(x.shape[-1], dim=-1)
                )
                bias = torch.stack(
                    [
                        torch.stack(
                            [
                                attention.bias[head, middle + a - c, middle + b - d]
                                for c, d in places
                            ]
                        )
                        for a, b in places
                    ]
                )
                found = (q @ k.T / width**0.5 + bias).softmax(1) @ v
                for (r, c), value in zip(places, found, strict=True):
                    out[r, c, part] = value
    return attention.out(out[None])


@pytest.mark.parametrize("side", [3, 7, 8, 10, 13])
def test_it_is_attention_inside_windows(side):
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 7, shifted=False)
    torch.nn.init.normal_(attention.bias)
    x = torch.randn(1, side, side, 8)
    torch.testing.assert_close(
        attention(x), plain_attention(attention, x, side), atol=1e-5, rtol=1e-5
    )


def test_windows_adapt_to_small_maps():
    for side in range(1, 40):
        window, count = window_grid(side, 7)
        assert window <= 7 and count * window >= side > count * window - window
        # never more windows than needed, and as even as can be
        assert count == int(np.ceil(side / 7)) and window == int(np.ceil(side / count))


@pytest.mark.parametrize("side", [8, 10, 13, 14])
def test_a_place_sees_its_window_and_shifted_windows_cross_the_edges(side):
    torch.manual_seed(0)
    window = window_grid(side, 7)[0]
    plain = WindowAttention(8, 2, 7, shifted=False)
    shifted = WindowAttention(8, 2, 7, shifted=True)
    for row, column in ((0, 0), (window - 1, window - 1), (window, 1), (side - 1, side - 1)):
        rows, columns = torch.arange(side), torch.arange(side)
        mine = (rows // window == row // window)[:, None] & (columns // window == column // window)
        assert torch.equal(influence(plain, side, row, column), mine)
        # rolled: windows begin at half a window, and no window reaches around the border
        by = window // 2

        def block(at, by=by):
            return torch.div(at - by, window, rounding_mode="floor")

        near = (block(rows) == block(torch.tensor(row)))[:, None]
        near = near & (block(columns) == block(torch.tensor(column)))
        assert torch.equal(influence(shifted, side, row, column), near)
    assert influence(shifted, side, window, window)[window - 1, window - 1]


def test_opposite_borders_stay_strangers():
    torch.manual_seed(0)
    shifted = WindowAttention(8, 2, 7, shifted=True)
    seen = influence(shifted, 14, 0, 0)
    assert seen[0, 0] and not seen[-1].any() and not seen[:, -1].any()


def test_a_single_window_is_not_shifted():
    torch.manual_seed(0)
    one, other = WindowAttention(8, 2, 7, shifted=False), WindowAttention(8, 2, 7, shifted=True)
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 6, 6, 8)
    torch.testing.assert_close(one(x), other(x))


def test_cutting_and_joining_windows_gives_the_map_back():
    x = torch.randn(2, 6, 8, 3)
    parts = to_windows(x, (3, 4))
    assert parts.shape == (2, 4, 12, 3)
    torch.testing.assert_close(parts[0, 3].view(3, 4, 3), x[0, 3:, 4:])
    assert torch.equal(from_windows(parts, (3, 4), 6, 8), x)


def test_it_begins_as_pooling_of_two_scales_and_its_weights_sum_to_one():
    torch.manual_seed(0)
    net, _ = build_net("wpat", 5, image_size=64, convnet_options=TINY, dim=16, heads=2)
    backbone = net.eval().backbone
    x = torch.rand(2, 3, 64, 64)
    features = net.features(x)
    assert [tuple(f.shape[1:3]) for f in features[1:]] == [(16, 16), (8, 8)]
    for branch, level in zip(backbone.branches, backbone.levels, strict=True):
        # each block begins as the identity
        maps = torch.randn(1, branch.norm.weight.numel(), 8, 8)
        plain = branch.last(branch.project(branch.norm(maps.permute(0, 2, 3, 1))))
        torch.testing.assert_close(branch(maps), plain)
        assert backbone.feature_info[level]["module"] in dict(backbone.named_modules())
    weights = backbone.attention_weights(features)
    torch.testing.assert_close(sum(w.sum((1, 2)) for w in weights), torch.ones(2))
    torch.nn.init.zeros_(backbone.query.weight)
    for weight in backbone.attention_weights(features):
        torch.testing.assert_close(weight.sum((1, 2)), torch.full((2,), 0.5))
    torch.testing.assert_close(net.head(features), net(x))
    average = backbone.encoder.forward_head(features[0], pre_logits=True)
    torch.testing.assert_close(net.embed(x)[:, :24], average)


@pytest.mark.parametrize(
    ("side", "grids"), [(24, [6, 3]), (32, [8, 4]), (64, [16, 8]), (96, [12, 6]), (224, [14, 7])]
)
def test_there_are_two_scales_at_every_size(side, grids):
    net, _ = build_net("wpat", 2, image_size=side, convnet_options=TINY, dim=16, heads=2)
    net.eval()
    features = net.features(torch.rand(1, 3, side, side))
    assert [tuple(found.shape[1:3]) for found in features[1:]] == [(n, n) for n in grids]
    weights = net.backbone.attention_weights(features)
    torch.testing.assert_close(sum(weight.sum() for weight in weights), torch.tensor(1.0))


def test_a_scale_that_is_missing_is_the_last_map_halved():
    torch.manual_seed(0)
    net, _ = build_net("wpat", 2, image_size=32, convnet_options=TINY, dim=16, heads=2, scales=3)
    backbone = net.eval().backbone
    assert (backbone.levels, backbone.halved) == ([3, 3, 3], [0, 1, 2])
    last, *found = net.features(torch.rand(2, 3, 32, 32))
    for n, (branch, seen) in enumerate(zip(backbone.branches, found, strict=True)):
        blocks = last.unflatten(3, (-1, 2**n)).unflatten(2, (-1, 2**n)).mean((3, 5))
        torch.testing.assert_close(branch(blocks), seen)


def test_what_attention_cannot_be_built_from_is_refused():
    with pytest.raises(ValueError, match="dim=16 .*heads=5; take a multiple, such as 20"):
        build_net("wpat", 2, image_size=32, convnet_options=TINY, dim=16, heads=5)
    for convnet in ("resnet50", "wpat", "vit_tiny_patch16_224"):
        with pytest.raises(ValueError, match=f"convnet='{convnet}'.*'resnet24' or a ConvNeXt"):
            build_net("wpat", 2, image_size=32, convnet=convnet)
    with pytest.raises(ValueError, match="Did you mean 'convnextv2_atto'"):
        build_net("wpat", 2, image_size=32, convnet="convnextv2_ato")


@pytest.mark.parametrize("side", [32, 50, 64, 101])
def test_any_size_goes_through(side):
    net = WPAT(3, encoder=ResNet24(0, width=8), dim=16, heads=2, scales=3).eval()
    assert net(torch.rand(1, 3, side, side)).shape == (1, 3)


def test_layers_of_the_convolutional_network_come_before_the_new_ones():
    from timm.optim import param_groups_layer_decay

    for convnet in ("convnextv2_atto", "resnet24"):
        options = TINY if convnet != "resnet24" else {"width": 8}
        net, _ = build_net("wpat", 3, image_size=64, convnet=convnet, convnet_options=options)
        groups = param_groups_layer_decay(net.backbone, 0.05, layer_decay=0.5)
        scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        of = {name: scale[id(p)] for name, p in net.backbone.named_parameters()}
        assert of["fc.weight"] == of["query.weight"] == of["branches.0.project.weight"] == 1
        stem = next(name for name in of if name.startswith("encoder.stem"))
        stages = [
            max(v for k, v in of.items() if k.startswith(f"encoder.stages.{i}.")) for i in range(4)
        ]
        assert of[stem] < stages[0] < stages[1] < stages[2] < stages[3] < 1
