"""reading/ finds digits in ink, and the order in which they are read."""

import itertools

import cv2
import fit_reader
import numpy as np
import nothing
import pages
import pictures
import pytest
from PIL import Image, ImageOps

from reading import candidates, forms, lines, output, posterior, reader, segments
import predict
from reading.binarize import Hypothesis, binarize
from reading.image import PictureError
from reading.posterior import TEMPERATURE, Digit, Reading, combine, completeness
from strokes import tight


def texts(model, images):
    return [
        None if isinstance(reading, PictureError) else reading.text
        for reading in predict.predict_images(images, model)
    ]


def side_by_side(digits, gap=16, size=96):
    """Return a page of digits, float (28, 28), in a line."""
    page = np.zeros((2 * size, (size + gap) * len(digits) + 2 * gap), dtype=np.float32)
    for i, digit in enumerate(digits):
        ink = pictures.enlarge(digit, size)
        page[
            size // 2 : size // 2 + size, gap + i * (size + gap) : gap + i * (size + gap) + size
        ] = ink
    return pictures.to_image(1 - 0.9 * page)


@pytest.fixture(scope="module")
def some():
    """One clear digit of each class."""
    digits, labels = pictures.digits(200, seed=3)
    return [digits[labels.index(i)] for i in range(10)]


@pytest.mark.slow
def test_numbers_as_people_write_them(model):
    """No kind may fail; six pages of one are few, so the floors lie below what two seeds gave."""
    exact, digits = {}, {}  # in %
    for kind in pages.KINDS:
        images, wanted = pictures.make_numbers(kind, 3 if kind is pages.small_line else 6, seed=1)
        right, _, _, wrong = pictures.score(predict.predict_images(images, model), wanted)
        exact[kind.__name__], digits[kind.__name__] = right, 100 - wrong
    assert np.mean(list(digits.values())) >= 86, digits
    assert digits.pop("field") >= 40 and digits.pop("small_line") >= 25 and min(digits.values()) >= 65, (
        digits
    )  # three small lines in all
    assert np.mean(list(exact.values())) >= 60, exact


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_copies_of_a_digit_are_as_many_digits(model, some, n):
    for i in (3, 6, 8):
        (said,) = texts(model, [side_by_side([some[i]] * n)])
        assert said == str(i) * n


def test_a_negative_reads_alike(model, some):
    page = side_by_side([some[i] for i in (2, 0, 2, 6)])
    assert texts(model, [page, ImageOps.invert(page)]) == ["2026", "2026"]


@pytest.mark.parametrize("degrees", [-10, 10])
def test_a_slanting_line_reads_alike(model, some, degrees):
    page = side_by_side([some[i] for i in (9, 0, 2, 1, 0)])
    (said,) = texts(
        model, [page.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=255)]
    )
    assert said == "90210"


def test_boxes_lie_on_their_digits(model, some):
    page = side_by_side([some[i] for i in (4, 7)])
    (reading,) = predict.predict_images([page], model)
    centres = [(found.box[0] + found.box[2]) / 2 * page.width for found in reading.digits]
    assert centres == pytest.approx([16 + 48, 16 + 48 + 112], abs=15)
    assert reading.probability == pytest.approx(
        np.prod([found.probability for found in reading.digits])
    )


@pytest.mark.parametrize("size", [50, 80, 110])
def test_other_ink_makes_a_number_unsure(model, some, size):
    """What was read is not all that is written: a star stands beside it."""
    page = np.pad(
        np.asarray(side_by_side([some[i] for i in (4, 7)]).convert("L")),
        ((0, 0), (0, 2 * size)),
        constant_values=255,
    )
    turns = np.exp(
        2j * np.pi * (np.arange(5) * 2 / 5 - 0.25)
    )  # five strokes that cross one another
    corners = np.stack(
        [
            page.shape[1] - size + 0.6 * size * turns.real,
            page.shape[0] / 2 + 0.6 * size * turns.imag,
        ],
        axis=1,
    )
    beside = cv2.polylines(page.copy(), [corners.astype(int)], True, 30, 5)
    plain, reading = predict.predict_images([page, beside], model)
    assert plain.probability >= predict.output.SURE > reading.probability, (
        plain.text,
        reading.text,
        reading.probability,
    )


@pytest.mark.slow
@pytest.mark.parametrize("narrow, floor", [(0.9, 0.7), (0.75, 0.55), (0.65, 0.55)])
def test_two_digits_that_touch_are_read_where_nothing_else_is(model, some, narrow, floor):
    """How high a digit is, only the pair itself tells; it may be no wider if both are narrow."""
    rng, images, wanted = np.random.default_rng(0), [], []
    for pair in itertools.permutations((0, 2, 3, 5, 6, 8), 2):
        inks = [tight(pictures.enlarge(some[i], 96)) for i in pair]
        ink = pages.margins(pages.line_ink(inks, rng, 68, 0.2, touching=True), rng, 68, 1, 1)
        image = pictures.to_image(np.repeat(1 - 0.9 * ink[..., None], 3, axis=2))
        images.append(image.resize((int(narrow * image.width), image.height)))
        wanted.append("".join(map(str, pair)))
    read = texts(model, images)
    assert np.mean([a == b for a, b in zip(read, wanted)]) >= floor, list(zip(wanted, read))


@pytest.mark.parametrize("flat", [1.0, 1.5, 1.75])
def test_a_flat_digit_has_a_digits_proportions_and_two_side_by_side_have_not(flat):
    assert candidates.has_proportions((0, 0, 60 * flat, 60), 60)
    assert candidates.has_proportions(
        (0, 0, 40 * flat, 40), 60
    )  # of a line whose other digits are higher
    assert not candidates.has_proportions((0, 0, 120, 60), 60)


# Lines


@pytest.mark.parametrize("slope", [-0.4, -0.1, 0, 0.2])
def test_lines_do_not_depend_on_the_order_of_pieces(slope):
    rng = np.random.default_rng(0)
    centre = np.array(
        [(x, 100 * row + slope * x) for row in range(3) for x in range(0, 400, 50)]
    ) + rng.uniform(-4, 4, (24, 2))
    box = np.concatenate([centre - (15, 25), centre + (15, 25)], axis=1)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(box))
        found = lines.order_lines(box[order])
        assert [[order[i] for i in line] for line in found] == [
            list(range(8 * row, 8 * row + 8)) for row in range(3)
        ]


@pytest.mark.parametrize("number", [
    (2, 3, 5), (0, 1, 8), (1, 8, 0), (4, 7, 2, 5, 3), (3, 4, 2, 7, 5, 4, 2)])
@pytest.mark.parametrize("quarters", [1, 3])
def test_a_number_stored_sideways_is_read(model, some, number, quarters):
    page = side_by_side([some[i] for i in number])
    page = page.rotate(90 * quarters, expand=True)
    assert texts(model, [page]) == ["".join(map(str, number))]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_box_is_turned_back(quarters):
    array = np.zeros((40, 60))
    array[5:10, 20:50] = 1
    turned = np.rot90(array, quarters)
    rows, columns = np.nonzero(turned.any(1))[0], np.nonzero(turned.any(0))[0]
    box = (
        columns[0] / turned.shape[1],
        rows[0] / turned.shape[0],
        (columns[-1] + 1) / turned.shape[1],
        (rows[-1] + 1) / turned.shape[0],
    )
    assert reader.turn_back(box, quarters) == pytest.approx((20 / 60, 5 / 40, 50 / 60, 10 / 40))


# The choice


@pytest.mark.parametrize("seed", range(20))
def test_the_cheapest_cover_is_the_cheapest(seed):
    rng = np.random.default_rng(seed)
    members = frozenset(range(5))
    sets = [
        (frozenset(c), i)
        for i, c in enumerate(c for n in (1, 2, 3) for c in itertools.combinations(range(5), n))
    ]
    costs, skip = rng.uniform(0, 3, len(sets)), rng.uniform(0, 2, 5)
    taken = candidates.cheapest_cover(members, sets, costs, skip)

    def cheapest(rest):  # by brute force
        if not rest:
            return 0.0
        first = min(rest)
        return min(
            [skip[first] + cheapest(rest - {first})]
            + [
                costs[i] + cheapest(rest - group)
                for group, i in sets
                if first in group and group <= rest
            ]
        )

    covered = [j for i in taken for j in sets[i][0]]
    price = sum(costs[taken]) + sum(skip[j] for j in members.difference(covered))
    assert len(covered) == len(set(covered)) and price == pytest.approx(cheapest(members))


def unsure(views):
    """A judge that knows nothing: float (N, 10)."""
    return np.full((len(views), 10), 0.1)


def look_at(ink):
    return Hypothesis(ink, ink > 0.5, True, np.zeros(ink.shape, bool), "")


def test_a_form_s_line_counts_as_a_digit_does_and_a_smudge_less_but_not_in_a_small_picture():
    ink = np.zeros((200, 200), dtype=np.float32)
    ink[60:140, 60:75] = ink[60:140, 120:135] = 1  # strokes
    line = ink.copy()
    line[5:195, 180:184] = 1
    assert segments.find_segments(look_at(line)).worth.tolist() == [1, 1, 1]
    soft = cv2.GaussianBlur(ink, (0, 0), 8)
    soft = np.maximum(soft / soft.max(), ink * (np.arange(200) < 100))  # one sharp, one a smudge
    sharp, smudge = sorted(segments.find_segments(look_at(soft)).worth.tolist(), reverse=True)
    assert sharp > 2 * smudge
    assert segments.find_segments(look_at(soft[50:150, 50:150])).worth.tolist() == [1, 1]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shade", [0.25, 0.4, 0.55])
@pytest.mark.parametrize("size", [200, 256])
def test_a_stroke_is_genuine_and_the_corner_of_a_shadow_is_not(sign, shade, size):
    """On light paper, and on its negative; wherever the shadow's edges are, and however soft."""
    genuine, mass = [], []
    for share, soft in itertools.product((0.2, 0.3, 0.4), (0.5, 1.5)):
        page = np.full((size, size), 0.9, np.float32)
        edge = int((1 - share) * size)
        page[edge:, edge - size // 5 :] *= shade
        page = cv2.GaussianBlur(page, (0, 0), soft)
        cv2.line(page, (size // 5, size // 5), (size // 4, size // 2), 0.1, size // 25)
        page = page if sign > 0 else 1 - page
        for hypothesis in itertools.islice(binarize(page[..., None], sign > 0), 3):
            parts = segments.find_segments(hypothesis)
            stroke = parts.box[:, 1] < size // 2
            assert (parts.genuine[stroke] == 1).all() and stroke.any()
            corner = ~stroke & (parts.box[:, 2:] < size).all(axis=1)  # not the shadow as a whole
            genuine += parts.genuine[corner].tolist()
            mass += parts.mass[corner].tolist()
    assert len(mass) > 6 and np.average(genuine, weights=mass) < 0.6


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("fall", [0.1, 0.3, 0.6])
def test_a_faint_stroke_in_falling_light_is_genuine(sign, fall):
    """Wherever the light falls from: its slope is no edge of the paper."""
    for quarters in range(4):
        light = 0.95 - fall * np.linspace(-1, 2, 256, dtype=np.float32).clip(0, 1)
        page = np.rot90(np.tile(light, (256, 1)), quarters).copy()
        drawn = page.copy()
        for x in (95, 110, 125, 140):
            cv2.line(drawn, (x, 105), (x + 8, 150), 0, 4)
        page -= 0.12 * (drawn == 0)
        page = page if sign > 0 else 1 - page
        for hypothesis in itertools.islice(binarize(page[..., None], sign > 0), 3):
            parts = segments.find_segments(hypothesis)
            assert len(parts.box) >= 4 and parts.genuine.min() == 1


def test_the_cheapest_cover_of_a_long_line_is_found():
    """A line of forty digits: what is left of it from left to right is nearly always the same."""
    sets = [
        (frozenset(range(i, i + n)), 4 * i + n - 1)
        for i in range(40)
        for n in (1, 2, 3, 4)
        if i + n <= 40
    ]
    costs, skip = np.random.default_rng(0).uniform(0, 3, 160), np.full(40, 2.0)
    taken = candidates.cheapest_cover(frozenset(range(40)), sets, costs, skip)
    price = costs[taken].sum() + 2 * (40 - sum(len(sets[i][0]) for i in taken))
    best = [0.0]
    for i in range(40):
        best.append(min([best[i] + 2] + [best[min(s)] + costs[k] for s, k in sets if max(s) == i]))
    assert price == pytest.approx(best[-1])


@pytest.mark.parametrize("lean", [-15, 0, 15])
def test_a_cut_follows_the_valley_between_two_strokes(lean):
    """Two strokes that lean to one side, joined by a bridge: the cut crosses the bridge only."""
    ink = np.zeros((60, 90), dtype=np.uint8)
    for x in (25, 62):
        cv2.line(ink, (x - lean, 5), (x + lean, 55), 1, 7)
    strokes = ink.copy()
    cv2.line(ink, (25, 30), (62, 30), 1, 4)
    (cuts,) = segments.find_cuts([ink.astype(np.float32)])
    right = np.arange(90) > cuts[0][:, None]
    _, stroke = cv2.connectedComponents(strokes)
    assert sorted(right[stroke == i].mean() for i in (1, 2)) == [0, 1]


def test_ink_too_faint_for_a_look_counts_if_it_has_a_digits_size():
    ink = np.zeros((200, 200), dtype=np.float32)
    ink[60:140, 60:75] = 1
    faint = ink.copy()
    faint[60:140, 120:135] = 0.4
    speck = ink.copy()
    speck[60:70, 120:130] = 0.4
    spotted = faint.copy()
    spotted[60:66, 120:126] = 0.6  # where the pen was put down
    alone, with_faint, with_speck, with_spots = (
        reader.ask(candidates.find_candidates(look_at(each)), unsure).ink
        for each in (ink, faint, speck, spotted)
    )
    assert alone == with_speck < min(with_faint, with_spots)
    assert with_spots == pytest.approx(with_faint, rel=0.1)


@pytest.mark.parametrize("size, at", [(1600, (0.2, 0.3)), (1400, (0.6, 0.7))])
def test_small_writing_on_a_large_page_is_read_where_it_is(model, some, size, at):
    line = side_by_side([some[i] for i in (2, 0, 6)], size=48)
    page = Image.new(line.mode, (size, size), 255 if line.mode == "L" else (255, 255, 255))
    corner = tuple(int(share * size) for share in at)
    page.paste(line, corner)
    (reading,) = predict.predict_images([page], model)
    assert reading.text == "206"
    for found in reading.digits:
        assert corner[0] < found.box[0] * size < found.box[2] * size < corner[0] + line.width
        assert corner[1] < found.box[1] * size < found.box[3] * size < corner[1] + line.height


@pytest.mark.parametrize("slope", [0.0, 0.04, -0.07])
def test_lines_that_slope_keep_no_number_from_being_read(model, some, slope):
    """What no digit touches is no ink to be explained, wherever it is long and thin."""
    page = np.array(side_by_side([some[i] for i in (1, 7, 6, 5, 4)], size=64).convert("L"))
    page = cv2.copyMakeBorder(page, 200, 200, 100, 100, cv2.BORDER_CONSTANT, value=255)
    page = np.maximum(page, 90)  # ink is fainter than print
    high, wide = page.shape
    for y in (70, 180, high - 180, high - 70):
        tilt = int(slope * wide / 2)
        cv2.line(page, (0, y - tilt), (wide, y + tilt), 0, 3)
    assert texts(model, [page]) == ["17654"]


@pytest.mark.parametrize("n", [20, 100])
def test_a_page_full_of_digits_is_no_thicket(some, n):
    """However many digits there are, and wide enough to be cut, a group stands for each of them."""
    page = np.full((1100, 1100), 255, np.uint8)
    for i in range(n):
        ink = cv2.resize(tight(pictures.enlarge(some[i % 10], 70)), None, fx=1.4, fy=1)
        row, column = divmod(i, 10)
        place(page, 255 * ink, 20 + 105 * column, 30 + 105 * row)
    look = next(reader.find_hypotheses(np.float32(page[..., None] / 255), None, (0.5,)))
    found = reader.ask(candidates.find_candidates(look), unsure)
    origin = found.segments.origin
    whole = [set(np.flatnonzero(origin == each)) for each in set(origin)]
    assert len(whole) >= n and len(origin) > 2 * n
    groups = [set(group) for group in found.groups]
    assert all(each in groups for each in whole)


@pytest.mark.parametrize("probability", [0.5, 0.99])
def test_only_what_the_network_is_not_sure_of_is_cut(probability):
    """No view is judged twice, and of what is sure there are no parts to judge."""
    ink, asked = np.zeros((200, 200), np.uint8), []
    cv2.ellipse(ink, (100, 100), (36, 24), 0, 0, 360, 1, 6)

    def judge(views):
        asked.extend(view.tobytes() for view in views)
        return np.full((len(views), 10), probability)

    found = reader.ask(candidates.find_candidates(look_at(np.float32(ink))), judge)
    assert sorted(asked) == sorted(view.tobytes() for view in found.views)
    assert len(found.probabilities) == len(found.groups)
    whole = tuple(range(len(found.segments.origin)))
    assert whole in found.groups and (len(whole) > 1) == (probability < candidates.PLAIN)


def place(page, ink, left, top):
    """Darken page, uint8, by ink, float 0..255."""
    high, wide = ink.shape
    page[top : top + high, left : left + wide] -= ink.astype(np.uint8)


@pytest.mark.parametrize("rows, columns, tilt", [(5, 6, 3), (4, 5, -4), (6, 4, 0)])
def test_a_sheet_on_a_dark_table_is_read_to_its_last_digit(model, some, rows, columns, tilt):
    """Wherever on it the first digits are seen: those around them are not left out, surely."""
    page = np.full((1080, 810), 25, np.uint8)
    page[250:980, 120:690] = 215
    wanted = [[(i + 3 * j) % 10 for j in range(columns)] for i in range(rows)]
    for i, row in enumerate(wanted):
        for j, digit in enumerate(row):
            ink = 95 * tight(pictures.enlarge(some[digit], 28))
            place(page, ink, 150 + j * 520 // columns, 300 + i * 640 // rows)
    turn = cv2.getRotationMatrix2D((405, 600), tilt, 1)
    page = cv2.warpAffine(page, turn, (810, 1080), borderValue=25)
    assert texts(model, [page]) == ["\n".join("".join(map(str, row)) for row in wanted)]


@pytest.mark.parametrize("apart", [6, 12, 20])
@pytest.mark.parametrize("faint", [90, 120])
def test_a_fainter_digit_far_from_the_others_is_read_too(model, some, apart, faint):
    page = np.full((600, 1400), 230, np.uint8)
    place(page, 180 * tight(pictures.enlarge(some[5], 50)), 60, 200)
    place(page, 180 * tight(pictures.enlarge(some[3], 50)), 120, 200)
    place(page, faint * tight(pictures.enlarge(some[7], 50)), 120 + 50 * apart, 200)
    assert texts(model, [page]) == ["537"]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.06])
def test_a_stroke_is_worth_more_than_falling_light(noise):
    grain = noise * np.random.default_rng(0).standard_normal((200, 200))
    stroke, light = (
        np.zeros((200, 200)),
        np.exp(-(((np.arange(200) - 100) / 40) ** 2)) * np.ones((200, 1)),
    )
    stroke[40:160, 95:105] = 1
    worth = []
    for ink in (stroke, 0.2 * light):
        ink = np.maximum(ink + grain, 0).astype(np.float32)
        found = segments.find_segments(look_at(ink / ink.max()))
        worth.append(found.worth[found.mass.argmax()])
    assert worth[0] == 1 and worth[1] < 0.2


@pytest.mark.parametrize("wide", [4, 6, 10, 14])
def test_what_lies_along_the_picture_s_edge_is_not_said_for_sure(model, wide):
    """Two strips of what lay beside the paper look like ones, and are nearly all of the ink."""
    page = np.full((400, 300), 200, np.uint8)
    page[:100, -wide:] = page[-60:, 1 - wide :] = 60
    (reading,) = predict.predict_images([page], model)
    assert isinstance(reading, PictureError) or reading.probability < 0.6


@pytest.mark.slow
def test_an_empty_page_is_refused_or_doubted(model):
    kinds = {nothing.blank_page: 0.7, nothing.noise: 0.9, nothing.empty_ruled: 0.3}
    for kind, floor in kinds.items():
        readings = predict.predict_images(pictures.make(kind, 10, seed=0)[0], model)
        refused = [isinstance(reading, PictureError) for reading in readings]
        assert np.mean(refused) >= floor, kind.__name__
        sure = [not no and r.probability >= predict.output.SURE for no, r in zip(refused, readings)]
        assert np.mean(sure) <= 0.1, kind.__name__


def test_groups_that_share_a_segment_are_chosen_among_together():
    """Also where the segments of one lie too far apart to be near one another."""
    groups = [(0,), (1,), (2,), (3,), (0, 2)]
    found = candidates.find_clusters(groups, 4)
    assert sorted(sorted(members) for members, _ in found) == [[0, 2], [1], [3]]
    assert sorted(i for _, ours in found for _, i in ours) == list(range(5))
    for members, ours in found:
        assert all(members.issuperset(group) for group, _ in ours)


def test_ink_lighter_than_its_paper_is_found_beside_dark_bars_that_are_no_digits(model, some):
    images = []
    for ink in some:
        page = np.full((240, 240), 0.5, dtype=np.float32)
        page[60:170, 60:170] += 0.3 * pictures.enlarge(ink, 110)
        for top in (10, 200):
            page[top:top + 30, 10:230] = 0.05
        images.append(pictures.to_image(page))
    assert texts(model, images) == list("0123456789")


@pytest.mark.parametrize("tall", [56, 100])
def test_a_small_digit_on_a_large_page_is_no_blank_picture(model, some, tall):
    ink = tight(pictures.enlarge(some[7], int(1.4 * tall)))
    page = np.full((2000, 3000), 255, np.uint8)
    place(page, 255 * ink, 2100, 900)
    assert texts(model, [page]) == ["7"]


def strokes_mask(*lines, size=100):
    """Return a bool mask of lines, lists of (x, y), each drawn by itself."""
    mask = np.zeros((size, size), dtype=np.uint8)
    for line in lines:
        cv2.polylines(mask, [np.int32(line)], False, 1, 3)
    return mask.astype(bool)


@pytest.mark.parametrize("around, within, kept", [
    ([(20, 15), (70, 15), (45, 85)], [(30, 50), (44, 50)], True),  # a 7 and its bar
    ([(20, 15), (80, 15), (80, 85), (20, 85), (20, 15)], [(50, 30), (50, 70)], False),  # a box
    ([(20, 15), (20, 85), (80, 85), (80, 15)], [(50, 30), (50, 70)], False),  # open above
    ([(20, 15), (20, 85), (80, 85)], [(50, 30), (50, 70)], False),  # two lines of a cell
])
def test_what_is_drawn_round_a_digit_is_no_digit_and_a_seven_round_its_bar_is_one(
        around, within, kept):
    label, box = segments.components(strokes_mask(around, within))
    outer = segments.sizes(box).max(axis=1).argmax()
    mass = np.bincount(label.ravel())[1:]
    expected = [kept or i != outer for i in range(len(box))]
    assert forms.may_be_writing(label, box, mass).tolist() == expected


def test_digits_that_are_parts_of_one_stroke_are_believed_less(model, some):
    """Letters fall apart into digits so; of digits side by side not all touch."""
    rng = np.random.default_rng(0)
    inks = [tight(pictures.enlarge(some[i], 96)) for i in (3, 5)]
    for touching in (False, True):
        ink = pages.margins(pages.line_ink(inks, rng, 68, 0.2, touching), rng, 68, 1, 1)
        reading, = predict.predict_images([pictures.to_image(1 - 0.9 * ink)], model)
        assert reading.suspect == touching and len(reading.digits) == 2
        assert reading.probability <= (posterior.SUSPECT if touching else 1)


@pytest.mark.parametrize("differ, between, teeth", [
    (0, True, True), (0, False, False), (9, True, False)])
def test_a_comb_s_teeth_are_alike_and_ones_by_hand_are_not(differ, between, teeth):
    mask = np.zeros((60, 300), dtype=bool)
    for i, x in enumerate(range(10, 290, 60)):
        mask[20 - differ * (i % 3):50, x:x + 3] = True
        if between:
            mask[15:45, x + 25:x + 40] = True
    label, box = segments.components(mask)
    thin = segments.sizes(box)[:, 0] == 3
    assert forms.are_teeth(label, box).tolist() == (thin & teeth).tolist()


@pytest.mark.parametrize("sign, x, y", [
    ("minus", -0.5, 0.5), ("minus", 1.15, 0.5), ("point", 1.1, 0.95), ("colon", 1.1, 0.5),
    ("speck", 1.1, 0.5), ("rule", 1, 1.3)])
def test_signs_in_a_line_make_it_unsure_and_specks_and_what_is_under_it_do_not(
        model, some, sign, x, y):
    """x, y: where the sign's middle is, in heights of the two digits."""
    inks = [tight(pictures.enlarge(some[i], 96)) for i in (3, 4)]
    ink = np.zeros((320, 520), dtype=np.float32)
    for n, each in enumerate(inks):
        left = 150 + 150 * n
        ink[100:100 + each.shape[0], left:left + each.shape[1]] = each
    middle = int(150 + 100 * x), int(100 + len(inks[0]) * y)
    wide, high = {"minus": (44, 10), "point": (16, 16), "colon": (16, 60), "speck": (4, 4),
                  "rule": (320, 6)}[sign]
    box = ink[middle[1] - high // 2:middle[1] + high // 2, middle[0] - wide // 2:middle[0] + wide // 2]
    box[:] = 1
    if sign == "colon":
        box[20:40] = 0
    reading, = predict.predict_images([pictures.to_image(1 - 0.9 * ink)], model)
    assert len(reading.digits) == 2
    assert reading.suspect == (sign in ("minus", "point", "colon"))
    assert not reading.suspect or reading.probability < output.SURE


@pytest.mark.parametrize("radius", [4, 6, 8, 10])
@pytest.mark.parametrize("apart", [20, 40])
def test_a_decimal_point_is_never_left_out_without_a_word(model, some, radius, apart):
    """Whether it is taken for a speck, for part of the digit beside it, or for nothing."""
    ink, left = np.zeros((220, 520), dtype=np.float32), 40
    for n, each in enumerate(tight(pictures.enlarge(some[i], 100)) for i in (3, 4, 7)):
        ink[150 - len(each):150, left:left + each.shape[1]] = each
        left += each.shape[1] + 25
        if n == 0:
            cv2.circle(ink, (left + apart // 2 - 25, 150 - radius), radius, 1.0, -1)
            left += apart + 2 * radius - 25
    reading, = predict.predict_images([pictures.to_image(1 - 0.9 * ink)], model)
    assert reading.probability < output.SURE


@pytest.mark.parametrize("size", [28, 32, 40, 48, 60])
@pytest.mark.parametrize("raised", [False, True])
def test_a_smaller_digit_is_never_left_out_without_a_word(model, some, size, raised):
    """Beside another or raised: one that is plain by itself is read, or what is read is not sure."""
    for large, small in [(2, 9), (5, 8), (6, 3), (7, 4)]:
        ink, left = np.zeros((200, 260), dtype=np.float32), 40
        for each in tight(pictures.enlarge(some[large], 100)), tight(pictures.enlarge(some[small], size)):
            bottom = 80 if raised and left > 40 else 150
            ink[bottom - len(each):bottom, left:left + each.shape[1]] = each
            left += each.shape[1] + 20
        reading, = predict.predict_images([pictures.to_image(1 - 0.9 * ink)], model)
        assert len(reading.digits) == 2 or reading.probability < output.SURE


def say(text, score, sure=0.96, apart=0.2):
    """Return a Reading of digits side by side, of which each is so sure."""
    digits = []
    for i, value in enumerate(text):
        p = np.full(10, (1 - sure) / 9)
        p[int(value)] = sure
        digits.append(Digit(int(value), sure, p, (i * apart, 0.1, i * apart + 0.1, 0.3), 0, None, 9))
    return Reading(digits, text, 0.0, True, score=score)


def test_looks_that_agree_outvote_one_that_is_a_little_better_and_a_rival_lowers_the_probability():
    alone, agreed = (combine(looks)[1] for looks in (
        [say("27", 0.8)], [say("27", 0.8), say("27", 0.78)]))
    assert alone.text == agreed.text == "27"
    assert [each.digits[1].probability for each in (alone, agreed)] == pytest.approx([0.96] * 2)
    votes, outvoted = combine([say("27", 0.8), say("22", 0.79), say("22", 0.78)])
    assert [i for i, _ in votes] == [1, 0] and outvoted.text == "22"
    assert sum(share for _, share in votes) == pytest.approx(1) and votes[0][1] > votes[1][1]
    first, second = outvoted.digits
    assert first.probability == pytest.approx(0.96) and second.probability < 0.75
    assert second.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("worse", [6, 12])  # so many times TEMPERATURE
def test_a_look_that_explains_little_counts_little(worse):
    votes, reading = combine([say("27", 0.8 - worse * TEMPERATURE)] * 5 + [say("33", 0.8)])
    assert (votes[0][0], reading.text) == (5, "33")
    assert [digit.probability for digit in reading.digits] == pytest.approx([0.96] * 2, abs=0.02)


def test_a_digit_that_the_others_do_not_see_is_unlikely():
    _, reading = combine([say("27", 0.8), say("27", 0.8), say("2", 0.8)])
    assert reading.text == "27"
    assert [digit.probability for digit in reading.digits] == pytest.approx([0.96, 0.64])
    _, reading = combine([say("27", 0.8), say("27", 0.8), say("27", 0.8, apart=0.6)])  # elsewhere
    assert [digit.probability for digit in reading.digits] == pytest.approx([0.96, 0.64])


@pytest.mark.parametrize("text, more", [("2", "27"), ("27", "271")])
def test_looks_that_see_one_digit_more_make_unsure(text, more):
    _, reading = combine([say(text, 0.8)] * 3 + [say(more, 0.8)])
    assert reading.text == text and completeness(reading) == pytest.approx(0.75)
    _, reading = combine([say(more, 0.8)] * 3 + [say(text, 0.8)])  # one less: see above
    assert reading.text == more and completeness(reading) == pytest.approx(1)


def test_the_fit_leaves_the_weights_and_names_the_best_of_each(some, tmp_path, capsys, monkeypatch):
    rows = ["file,label,hand"]
    for i in range(6):
        pictures.to_image(1 - pictures.enlarge(some[i], 96)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i},{i}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    for name in ("find_hypotheses", "find_candidates", "to_array"):
        monkeypatch.setattr(reader, name, getattr(reader, name))
    before = [getattr(*key) for key in fit_reader.WEIGHTS]
    fit_reader.main([tmp_path], tmp_path / "reliability.png")
    assert [getattr(*key) for key in fit_reader.WEIGHTS] == before
    said = capsys.readouterr().out
    assert all(name in said for _, name in fit_reader.WEIGHTS) and "right 100.00 %" in said
    assert Image.open(tmp_path / "reliability.png").width >= 600


def test_each_band_of_the_reliability_diagram_counts_its_own():
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    right = rng.random(2000) < p
    said, n, good = map(np.array, zip(*fit_reader.bands_of(p, right)))
    assert n.sum() == 2000 and good.sum() == right.sum() and (np.diff(said) > 0).all()
    rows = [("a.png", "7", "single", 0)] * 2000
    line = fit_reader.plot_reliability(rows, p, right).axes[0].containers[0][0]
    assert line.get_xdata() == pytest.approx(100 * said)
    assert line.get_ydata() == pytest.approx(100 * good / n)
    assert np.abs(good / n - said).max() < 0.15  # as many as said
