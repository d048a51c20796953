"""hands.py writes ones and sevens as others do, and makes what is no digit."""

import pytest
import torch

import hands
import recipe


@pytest.fixture(scope="module")
def some(training_set):
    images, labels = training_set
    return images[:2000], labels[:2000]


def generator():
    return torch.Generator().manual_seed(0)


def test_only_some_ones_and_sevens_change(some):
    images, labels = some
    changed = (hands.other_hands(images, labels, generator()) != images).flatten(1).any(1)
    assert not changed[(labels != 1) & (labels != 7)].any()
    for digit in (1, 7):
        assert 0.2 < changed[labels == digit].float().mean() < 0.5


def test_a_flag_makes_a_one_wider_and_it_stays_framed(some):
    images, labels = some
    ones = images[labels == 1].float() / 255
    flagged = hands.flagged(ones, generator())
    width = [(edges[1] - edges[0]).mean() for edges in map(hands.extent, (hands.frame(ones), flagged))]
    assert flagged.shape == ones.shape and width[1] > width[0]
    left, top, right, bottom = hands.extent(flagged)
    assert torch.maximum(right - left, bottom - top).max() < 1.7 and hands.centre(flagged).abs().max() < 0.15


@pytest.mark.parametrize("n", [3, 64, 1000])
def test_junk_is_a_tenth_and_the_same_for_the_same_seed(some, n):
    images, labels = (part[:n] for part in some)
    junk, again = (hands.make_junk(images, labels, generator()) for _ in range(2))
    assert junk.dtype == torch.uint8 and junk.shape[1:] == (1, 32, 32) and abs(len(junk) - 0.1 * n) <= 3
    assert torch.equal(junk, again) and (len(junk) == 0 or junk.flatten(1).amax(1).float().mean() > 150)


def test_targets_of_junk_are_uniform_and_labels_stay(some):
    images, labels = some
    assert recipe.add_strangers(images, labels, ("junk",), 0)[0].shape[0] == 2200
    inputs, targets = recipe.add_strangers(images, labels, ("hands", "junk"), 0)
    assert torch.equal(targets[:2000].argmax(1), labels) and (targets[2000:] == 0.1).all()
    assert all(part is given for part, given in zip(recipe.add_strangers(images, labels, (), 0), (images, labels)))
