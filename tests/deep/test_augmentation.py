import numpy as np
import pytest
import torch

from hemaest.deep.augmentation import (
    STANDARD,
    STRONG,
    Strength,
    augment_batch,
    blur,
    dihedral,
    draw_stains,
    erase,
    mix_batch,
    move,
    resolve_augment,
    restain,
)
from hemaest.stain import StainAugmenter


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(6, 3, 24, 24, generator=seeded())


@pytest.mark.parametrize("strength", [STANDARD, STRONG])
def test_augmented_images_are_images_and_repeat_with_the_seed(images, strength):
    before = images.clone()
    once = augment_batch(images, strength, seeded(1))
    assert torch.equal(once, augment_batch(images, strength, seeded(1)))
    assert not torch.equal(once, augment_batch(images, strength, seeded(2)))
    assert once.shape == images.shape and once.min() >= 0 and once.max() <= 1
    assert torch.equal(images, before)


def test_a_round_cell_survives_any_turn():
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    far = torch.hypot(rows - 16, columns - 16)
    disc = torch.sigmoid(far - 9).expand(8, 3, 33, 33)
    turned = move(disc, Strength(shift=0, scale=0), seeded(3))
    inside = (far < 15).expand_as(disc)
    assert (turned - disc)[inside].abs().max() < 0.08


def test_turning_shifts_and_scales_no_further_than_requested():
    image = torch.zeros(200, 3, 41, 41)
    image[:, :, 18:23, 18:23] = 1
    moved = move(image, Strength(shift=0.1, scale=0.2), seeded(4))[:, 0]
    mass = moved.sum((1, 2))
    rows = (moved.sum(2) * torch.arange(41)).sum(1) / mass
    assert (rows - 20).abs().max() <= 0.1 * 41 * np.exp(0.2) * np.sqrt(2) + 0.5
    assert mass.max() < 25 * np.exp(0.4) * 1.1 and mass.min() > 25 * np.exp(-0.4) * 0.9


def test_a_turned_image_is_as_sharp_as_prediction_sees_it():
    stripes = 0.5 + 0.3 * torch.cos(torch.arange(96.0) * torch.pi / 2)
    image = stripes.expand(64, 3, 96, 96)
    turned = move(image, Strength(shift=0, scale=0), seeded(5))
    middle = (..., slice(24, 72), slice(24, 72))
    # a linear interpolation leaves .82 of so fine a pattern's contrast
    assert abs(turned[middle].std() / image[middle].std() - 1) < 0.05


def test_stains_change_as_the_augmenter_changes_them():
    augmenter = StainAugmenter(random_state=0)
    cells = np.random.default_rng(0).integers(20, 250, (5, 8, 8, 3)).astype(np.uint8)
    expected = augmenter.augment(cells)
    matrices, offsets = map(torch.from_numpy, augmenter.draw(5))
    floats = torch.from_numpy(cells).permute(0, 3, 1, 2).float() / 255
    ours = restain(floats, matrices, offsets).permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(ours - expected.astype(float)).max() <= 0.55


def test_drawn_stains_have_the_spread_of_the_augmenter():
    n = 4000
    ours, light = draw_stains(n, Strength(stain=0.3, tilt=6, background=0.03), seeded())
    theirs, other = StainAugmenter().draw(n, random_state=0)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.02)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.02)
    np.testing.assert_allclose(light.std(0), other.std(0), atol=0.002)
    still, nothing = draw_stains(3, Strength(stain=0, tilt=0, background=0), seeded())
    np.testing.assert_allclose(still, torch.eye(3).expand(3, 3, 3), atol=1e-5)
    assert not nothing.any()


def test_blur_keeps_the_mean_and_lowers_contrast():
    images = torch.rand(8, 3, 32, 32, generator=seeded())
    soft = blur(images, 1.0, seeded(1))
    assert torch.allclose(soft.mean((2, 3)), images.mean((2, 3)), atol=0.02)
    assert (soft.var((2, 3)) < images.var((2, 3))).all()
    assert torch.equal(blur(images, 0.0, seeded(1)), images)


def test_erase_hides_about_as_much_as_it_says():
    images = torch.rand(400, 3, 20, 20, generator=seeded())
    hidden = (erase(images, 0.5, seeded(1)) != images).any(1).float().mean((1, 2))
    assert abs((hidden > 0).float().mean() - 0.5) < 0.08
    assert hidden.max() <= 0.45**2


def test_the_eight_views_are_a_group():
    image = torch.rand(1, 3, 5, 5, generator=seeded())
    views = [dihedral(image, v) for v in range(8)]
    assert len({tuple(v.flatten().tolist()) for v in views}) == 8
    again = {tuple(dihedral(v, w).flatten().tolist()) for v in views for w in range(8)}
    assert again == {tuple(v.flatten().tolist()) for v in views}


def test_mixup_mixes_images_as_it_mixes_targets():
    images = torch.eye(4)[:, :3].reshape(4, 3, 1, 1).expand(4, 3, 6, 6)
    target = torch.arange(4)
    mixed, shares = mix_batch(images, target, 4, seeded(5), mixup=0.4)
    np.testing.assert_allclose(mixed.mean((2, 3)), shares[:, :3], atol=1e-6)


def test_cutmix_shares_are_areas():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16)
    for seed in range(8):
        mixed, shares = mix_batch(images, torch.arange(4), 4, seeded(seed), cutmix=1.0)
        areas = torch.stack([(mixed[:, 0] == k).float().mean((1, 2)) for k in range(4)], dim=1)
        np.testing.assert_allclose(shares, areas, atol=1e-6)


def test_augment_by_name_object_or_callable(images):
    assert resolve_augment(None) is None
    assert resolve_augment(len) is len
    for given in ("standard", "strong", StainAugmenter()):
        changed = resolve_augment(given)(images, seeded())
        assert changed.shape == images.shape and not torch.equal(changed, images)
