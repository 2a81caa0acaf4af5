import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hemaest.nets.gan import (
    Discriminator,
    Generator,
    Refiner,
    StyledConv,
    augment_for_discriminator,
    cut_out,
    dihedral_views,
    gradient_penalty,
    jitter_color,
    relativistic_losses,
    shift,
    stages,
    structure_loss,
)


@pytest.mark.parametrize("size", [16, 24, 32, 40, 56, 64, 96, 128, 256])
def test_nets_of_every_size(size):
    start, doublings = stages(size)
    assert start << doublings == size
    label = torch.tensor([0, 2])
    generator = Generator(3, size, latent_size=8, width=2)
    images = generator(torch.randn(2, 8), label)
    assert images.shape == (2, 3, size, size)
    assert Discriminator(3, size, width=2)(images, label).shape == (2,)


def test_a_style_is_a_scaling_of_the_weights():
    torch.manual_seed(0)
    layer = StyledConv(4, 5, 6)
    x, style = torch.randn(3, 4, 7, 7), torch.randn(3, 6)
    got = layer(x, style)
    for i in range(3):
        weight = layer.weight * layer.scale * layer.style(style[i : i + 1])[0][None, :, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        plain = F.conv2d(x[i : i + 1], weight, layer.bias, padding=1)
        torch.testing.assert_close(got[i : i + 1], F.leaky_relu(plain, 0.2) * 2**0.5)


def test_outputs_have_about_unit_variance_at_the_start():
    torch.manual_seed(0)
    images = Generator(2, 32, width=8)(torch.randn(64, 64), torch.zeros(64, dtype=torch.long))
    assert 0.3 < images.std() < 6


def test_without_conditioning_the_class_does_not_count():
    torch.manual_seed(0)
    generator, discriminator = Generator(2, 16, width=4), Discriminator(2, 16, width=4)
    noise, labels = torch.randn(3, 64), (torch.zeros(3).long(), torch.ones(3).long())
    blind = [generator(noise, label, 0.0) for label in labels]
    assert torch.equal(*blind)
    assert not torch.equal(*(generator(noise, label) for label in labels))
    assert torch.equal(*(discriminator(blind[0], label, 0.0) for label in labels))
    assert not torch.equal(*(discriminator(blind[0], label) for label in labels))


def test_pairing_losses_compare_only():
    real, fake = torch.randn(9), torch.randn(9)
    for shifted, other in zip(
        relativistic_losses(real, fake), relativistic_losses(real + 5, fake + 5), strict=True
    ):
        torch.testing.assert_close(shifted, other)
    expected = np.log1p(np.exp((fake - real).numpy())).mean()
    assert relativistic_losses(real, fake)[0].item() == pytest.approx(expected, rel=1e-5)
    one, other = relativistic_losses(real, fake), relativistic_losses(fake, real)
    assert one[0] == other[1] and one[1] == other[0]


def test_slope_penalty_of_a_plane_is_its_squared_slope():
    slope = torch.randn(3, 4, 4)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    penalty = gradient_penalty((images * slope).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, slope.square().sum())


def test_views_are_the_eight_of_a_square():
    square = torch.arange(9.0).view(1, 1, 3, 3).repeat(8, 1, 1, 1)
    signs = torch.tensor([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    found = {tuple(v.flatten().tolist()) for v in dihedral_views(square, signs.float())}
    expected = {
        tuple(torch.rot90(s, k, (0, 1)).flatten().tolist())
        for s in (square[0, 0], square[0, 0].flip(0))
        for k in range(4)
    }
    assert found == expected and len(found) == 8


def test_a_shift_moves_whole_pixels():
    image = torch.rand(1, 3, 8, 8)
    moved = shift(image, torch.tensor([[1.0, 0.0]]), 0.25)
    torch.testing.assert_close(moved[..., :6], image[..., 2:])
    moved = shift(image, torch.tensor([[0.0, -1.0]]), 0.25)
    torch.testing.assert_close(moved[:, :, 2:], image[:, :, :6])


def test_no_noise_changes_no_color_and_cuts_are_square():
    image = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(jitter_color(image, torch.zeros(2, 3), 0.5), image)
    hidden = cut_out(torch.ones(1, 1, 8, 8), torch.zeros(1, 2), 0.5)
    assert hidden.sum() == 64 - 16 and hidden[0, 0, 2:6, 2:6].sum() == 0


def test_the_generator_learns_through_the_changes():
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    augment_for_discriminator(images, torch.Generator().manual_seed(0)).sum().backward()
    assert torch.isfinite(images.grad).all() and (images.grad != 0).any(dim=1).float().mean() > 0.4


def test_about_an_eighth_of_the_images_is_only_turned():
    square = torch.arange(64.0).view(1, 1, 8, 8).repeat(400, 3, 1, 1)
    seen = augment_for_discriminator(square, torch.Generator().manual_seed(0))
    same = seen.flatten(1).sort().values == square.flatten(1).sort().values
    assert 0.08 < same.all(dim=1).float().mean() < 0.17


def test_a_refiner_starts_as_the_identity_and_changes_no_more_than_it_may():
    torch.manual_seed(0)
    net = Refiner(2, latent_size=8, width=4, reach=0.3)
    source = torch.rand(3, 3, 24, 24) * 1.2 - 0.6
    noise, label = torch.randn(3, 8), torch.tensor([0, 1, 1])
    torch.testing.assert_close(net(noise, label, source=source), source)
    torch.nn.init.normal_(net.to_rgb.weight, std=50.0)
    changed = net(noise, label, source=source) - source
    assert 0.25 < changed.abs().max() <= 0.3 + 1e-6
    assert not torch.equal(net(noise, label, source=source), net(noise, 1 - label, source=source))
    assert torch.equal(
        net(noise, label, 0.0, source=source), net(noise, 1 - label, 0.0, source=source)
    )


def test_stain_and_lamp_are_no_change_of_structure():
    x = torch.rand(2, 3, 16, 16)
    gain = torch.tensor([0.5, 0.8, 1.2]).view(1, 3, 1, 1)
    assert structure_loss(x * gain + 0.1, x) < 1e-2
    assert structure_loss(x.roll(3, -1), x) > 0.5
