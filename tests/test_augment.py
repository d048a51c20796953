"""Distorted digits are still digits, and distorted as far as it says."""

import pytest
import torch

from training import augment
from training.recipes import RECIPES


def test_affine_turns_counterclockwise_by_the_angle_asked_for():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 15:17, 24:28] = 1  # a bar to the right of the centre
    turned = augment.warp(image, augment.affine(torch.tensor([torch.pi / 2])))
    assert turned[0, 0, 4:8, 15:17].min() > 0.99 and turned.sum() == pytest.approx(image.sum())


def test_nothing_but_paper_comes_in_from_outside():
    distort = augment.make_augment(RECIPES["modern"]["ingredients"])
    blank = distort(torch.zeros(64, 1, 32, 32), torch.Generator().manual_seed(0))
    assert blank.abs().max() == 0


def test_augmentation_repeats_itself_stays_in_range_and_keeps_the_ink(training_set):
    images = training_set[0][:256].float() / 255
    distort = augment.make_augment(RECIPES["modern"]["ingredients"])
    once, again = (distort(images.clone(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once, images)
    assert once.min() >= 0 and once.max() <= 1 and once.shape == images.shape
    assert 0.7 < once.mean() / images.mean() < 1.4


def test_elastic_field_is_smooth_and_as_large_as_it_says():
    coefficients = augment.random_elastic(500, torch.Generator().manual_seed(0))
    # pixels
    field = (coefficients @ augment.warp_basis()[3:]).view(500, 2, 32, 32).permute(0, 2, 3, 1) * 16
    assert field.shape == (500, 32, 32, 2) and field[:, 0, 0].std() == pytest.approx(0.4, abs=0.04)
    assert field.diff(dim=1).abs().max() < 0.6 and field.mean().abs() < 0.02


def test_strokes_get_thicker_and_thinner(training_set):
    images = training_set[0][:100].float() / 255
    changed = augment.random_thickness(images, torch.Generator().manual_seed(0))
    assert (changed[:25] >= images[:25]).all() and (changed[25:50] <= images[25:50]).all()
    assert (
        changed[:25].sum() > 1.1 * images[:25].sum()
        and changed[25:50].sum() < 0.9 * images[25:50].sum()
    )
    assert torch.equal(changed[50:], images[50:])
