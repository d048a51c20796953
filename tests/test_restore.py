"""What a picture went through while it was taken is undone where it may be true, and nowhere else."""

import numpy as np
import pictures
import pytest
from corruptions import motion_blur

from reading import picture
from reading import restore


@pytest.fixture(scope="module")
def digits():
    return pictures.digits(40, seed=1)[0]


def test_what_is_sharp_did_not_move(digits):
    assert np.mean([any(True for _ in restore.undo_motion(digit)) for digit in digits]) <= 0.1  # a stroke, along itself


def test_a_movement_is_undone(digits):
    rng, nearer = np.random.default_rng(0), []
    for digit in digits:
        moved = motion_blur(digit, rng)
        ways = [np.clip(ink, 0, 1) for ink, _ in restore.undo_motion(moved)]
        assert len(ways) <= 6 and all(ink.shape == digit.shape and ink.dtype == np.float32 for ink in ways)
        nearer.append(any(abs(ink - digit).mean() < 0.8 * abs(moved - digit).mean() for ink in ways))
    assert np.mean(nearer) > 0.9


def shine(page, ink, share):
    """Return the picture (H, W, 1) of a page with ink, both reflecting that share of a light."""
    array = page - 0.5 * ink
    return (array + share * (restore.WHITE - array))[..., None].astype(np.float32)


@pytest.mark.parametrize("radius", [25, 30, 35])
def test_glare_is_taken_away(digits, radius):
    y, x = np.mgrid[:204, :204]
    spot = 0.7 * np.exp(-np.hypot(x - 102, y - 102) ** 2 / (2 * radius ** 2))
    ink = np.pad(pictures.enlarge(digits[0], 84), 60)
    seen = restore.undo_glare(shine(0.7, ink, spot))
    error, before = (abs(each - 0.5 * ink)[ink > 0.9].mean() for each in (seen, 0.7 - shine(0.7, ink, spot)[..., 0]))
    assert error < 0.6 * before and seen[ink == 0].mean() < 0.02


@pytest.mark.parametrize("paper", [0.3, 0.6, 0.9, 1.0])
def test_no_glare_no_look(digits, paper):
    ink = np.pad(pictures.enlarge(digits[0], 84), 60)
    array = (paper - 0.25 * ink)[..., None].astype(np.float32)
    assert restore.undo_glare(array) is None and restore.undo_glare(1 - array) is None
    assert not any("reflected" in look.name for look in picture.looks(array))
