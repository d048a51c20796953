"""The figure of one picture shows what its looks took for ink, and what they explain of it."""

import cv2
import numpy as np
import pages
import pictures
import pytest
from PIL import Image

import predict
from figures import readings
from reading.account import EXPLAINED, FAINT, LEFT_OUT, NOT_COUNTED, PAPER, WORTH_LESS, account
from reading.image import NoDigit
from reading.posterior import find_terms
from reading.reader import ask, find_best


def one():
    return pictures.make(pictures.as_mnist, 1, seed=2)[0][0]


def number():
    return pictures.make_numbers(pages.line, 1, seed=1)[0][0]


def stroke_left_out():
    """A 1 and a plus sign, which may be a 4, but for a stroke."""
    paper = np.full((150, 150), 245, np.uint8)
    for ends in ((50, 40), (50, 100)), ((75, 70), (105, 70)), ((90, 55), (90, 85)):
        cv2.line(paper, *ends, 30, 6)
    return Image.fromarray(paper)


KINDS = [one, number, stroke_left_out]


def test_the_figure_and_the_account_name_the_kinds_alike():
    names = ["paper", "not counted", "left out as too faint", "left out",
             "explained, but soft or at an edge", "explained"]
    assert list(readings.KINDS) == names
    assert (PAPER, NOT_COUNTED, FAINT, LEFT_OUT, WORTH_LESS, EXPLAINED) == tuple(range(6))


def looks_at(model, image):
    return ask(find_best(image), lambda views: predict.read_views(model, views)).looks


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_explained_and_what_is_left_out_is_all_of_the_ink(model, kind):
    checked = 0
    for look in looks_at(model, kind()):
        kinds, (ink, mask, _, lines, *_) = account(look, look)[2], look.hypothesis
        taken = mask | lines
        assert np.array_equal(taken, ~np.isin(kinds, (PAPER, FAINT)))
        assert ((kinds == NOT_COUNTED) <= (look.segments.label == 0)).all()
        held = np.isin(kinds, (EXPLAINED, WORTH_LESS))
        assert np.array_equal(held, np.isin(look.segments.label, np.array(look.chosen) + 1))
        assert look.chosen and 1 - sum(find_terms(look.reading).values()) == pytest.approx(
            look.reading.score)
        plain = (look.segments.worth == 1).all()
        plain &= look.segments.ink == pytest.approx(look.segments.mass.sum())  # and no bars
        if not lines.any() and not (kinds == FAINT).any() and plain:
            soft = np.minimum(ink, 1)
            held, left = soft[held].sum(), soft[kinds == LEFT_OUT].sum()
            share = find_terms(look.reading)["ink not explained"]
            assert share == pytest.approx(left / (held + left), abs=1e-4)
            checked += 1
    assert checked


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_look_is_the_reading_and_shares_are_of_one(model, kind):
    image = kind()
    (reading,) = predict.predict_images([image], model)
    looks = looks_at(model, image)
    texts = [look.reading.text for look in looks]
    assert texts[0] == reading.text and len(set(texts)) == len(texts) <= 3
    shares = [look.share for look in looks]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1 + 1e-9
    assert reading.looks == ()  # of many pictures none is kept


def test_a_stroke_that_is_left_out_is_shown_so(model):
    looks = looks_at(model, stroke_left_out())
    assert any((account(look, looks[0])[2] == LEFT_OUT).sum() > 50 for look in looks)
    assert "ink not explained" in "".join(account(look, looks[0])[1] for look in looks)


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in (one, stroke_left_out)]


@pytest.mark.parametrize("kind", [number, *SLOW])
def test_a_figure_says_it_and_changes_no_reading(model, kind, tmp_path, capsys, network):
    path, figure = tmp_path / "picture.png", tmp_path / "seen.png"
    arguments = [str(path), "--json", "--checkpoint", str(network)]
    kind().save(path)
    said = []
    for more in [], ["--save", str(figure)]:
        assert predict.main([*arguments, *more]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1] and Image.open(figure).height > Image.open(figure).width / 2
    image = Image.open(path)
    (reading,) = predict.predict_images([image], model)
    for n, looks in (1, looks_at(model, image)), (2, []):
        drawn = readings.plot([(image, reading)] * n, model)
        titles = [ax.get_title() for ax in drawn.axes if ": P " in ax.get_title()]
        assert len(titles) == len(looks)


def test_of_a_long_text_the_lines_that_differ_are_named(model):
    (look,) = looks_at(model, number())
    best, other, brief = (look._replace(reading=look.reading._replace(text=text)) for text in (
        "123456\n777777\n123456789", "123456\n222222\n123456789", "7\n1"))
    titles = [account(each, best)[0].split(":")[0] for each in (best, other, brief)]
    assert titles == ["123456 / 777777 / 123456789", "... 222222", "7 / 1"]


def test_what_is_no_digit_has_an_account_too_if_there_is_ink(model):
    dots = np.full((150, 150), 240, np.uint8)
    for at in np.random.default_rng(0).integers(5, 145, (60, 2)).tolist():
        cv2.circle(dots, at, 2, 40, -1)
    for image, why in (Image.fromarray(dots), "digit"), (Image.new("L", (90, 90)), "blank"):
        (error,) = predict.predict_images([image], model)
        assert isinstance(error, NoDigit) and why in str(error)
        figure = readings.plot([(image, error)], model)
        assert any(": P " in ax.get_title() for ax in figure.axes) == (why == "digit")


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("shape", [(28, 28), (90, 900), (900, 90)])
def test_no_words_lie_on_others(n, shape):
    words = ("ink: what is lighter than the paper within 0.25 of the picture; half of full ink or "
             "more; without ruled lines\nexplained: 20 % by 1, 17 % by 2, 22 % by 3, 26 % by 4\n"
             "score 0.20 = 1 \N{MINUS SIGN} 0.63 ink not explained \N{MINUS SIGN} 0.03 unsure "
             "digits \N{MINUS SIGN} 0.14 many digits; worth 0.30\n"
             "mean \N{MINUS SIGN}log p of the digits: 0.09 nats")
    look = "1234567890 / " * 9 + "1: P = 20 %", words, np.ones(shape, np.uint8), [(0, 0, 1, 1)]
    figure = readings.plot_readings([None], [None], ["why"], [None], [look] * n)
    figure.draw_without_rendering()
    below = figure.subfigs[1]
    texts = [below._suptitle, *below.legends[0].get_texts()]
    texts += [text for ax in below.axes for text in (ax.title, *ax.texts)]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) == 6 + 2 * n
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0
        assert not any(box.overlaps(other) for other in boxes[:i])
