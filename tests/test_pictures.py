"""The generator of pictures makes the same ones for the same seed, and says what is on them."""

import re

import nothing
import numpy as np
import pages
import pictures
import pytest
import strokes
import troubles


@pytest.mark.parametrize("kind", pictures.KINDS + troubles.KINDS + nothing.KINDS, ids=lambda kind: kind.__name__)
def test_a_seed_makes_the_same_pictures(kind):
    (first, labels), (second, _), (other, _) = (pictures.make(kind, 3, seed) for seed in (1, 1, 2))
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    assert [image.tobytes() for image in first] != [image.tobytes() for image in other]
    assert all((label is None) == (kind in nothing.KINDS) for label in labels)


@pytest.mark.parametrize("kind", pages.KINDS, ids=lambda kind: kind.__name__)
def test_numbers_say_what_is_on_them(kind):
    (first, texts), (second, again) = (pictures.make_numbers(kind, 3, seed=1) for _ in range(2))
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second] and texts == again
    assert all(re.fullmatch(r"\d+(\n\d+)*", text) for text in texts)
    several = kind in (pages.page, pages.table)
    assert all(("\n" in text) == several for text in texts)


@pytest.mark.parametrize("touching", [False, True])
def test_digits_of_a_line_touch_if_they_are_told_to(touching):
    import cv2

    digits, _ = pictures.digits(40, seed=3)
    rng = np.random.default_rng(0)
    for _ in range(10):
        inks = [strokes.tight(strokes.pen_stroke(digits[i], 60, 5)) for i in rng.integers(0, 40, 5)]
        alone = sum(cv2.connectedComponents((ink > 0.3).astype(np.uint8))[0] - 1 for ink in inks)
        line = pages.line_ink(inks, rng, 45, 0.3, touching)
        assert (cv2.connectedComponents((line > 0.3).astype(np.uint8))[0] - 1 < alone) == touching


def test_the_score_tells_right_refused_and_misled_apart():
    from reading.image import NoDigit
    from reading.posterior import Reading

    def reading(text, probability):
        return Reading([], text, probability, False)

    answers = [reading("1", 0.9), reading("2", 0.9), reading("3", 0.5), NoDigit("no digit found")]
    assert pictures.score(answers, ["1", "7", "7", "7"]) == (25, 25, 25, 75)
    assert pictures.score(answers, [None] * 4) == (50, 25, 50, 0)  # refused or unsure is right where there is no digit
    assert pictures.score(answers, [""] * 4) == (25, 25, 50, 0)  # an empty page has to be refused
    assert pictures.distance("123\n45", "12345") == 1 and pictures.distance("", "12") == 2


def test_a_touching_line_is_told_to_touch(monkeypatch):
    told, line_ink = [], pages.line_ink
    monkeypatch.setattr(pages, "line_ink", lambda *args: told.append(args[4]) or line_ink(*args))
    pictures.make_numbers(pages.touching_line, 3, seed=1)
    assert told == [True] * 3


@pytest.mark.parametrize("a, b, edits", [("", "", 0), ("123", "123", 0), ("12", "123", 1), ("123", "12", 1), ("123", "923", 1),
                                         ("12", "21", 2), ("", "4567", 4)])
def test_the_distance_of_two_texts(a, b, edits):
    assert pictures.distance(a, b) == edits
