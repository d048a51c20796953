"""The page of predict.py --export: the same numbers as torch, and used as a person uses it.

Its JavaScript runs in node, the whole page in headless Chromium, where these are installed.
"""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from torch import nn

import predict
import utils
from training import checkpoints
from browser import CHROMIUM, Browser
from figures import page
from model import LeNet5
from strokes import draw_lines, to_image, wobble
from training.data import read_mnist
from training.judge import read_views

NODE = shutil.which("node") or shutil.which("nodejs")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
COMMITTED = utils.ASSETS / "lenet5.html"
SIDE, NIB = 384, 24.5  # pixels: of a drawing, and the width that OpenCV gives to a pen of 24

# how the digits are written: strokes of corners, in 0..1
SHAPES = {
    0: [[(.5, 0), (.12, .25), (.12, .75), (.5, 1), (.88, .75), (.88, .25), (.5, 0)]],
    1: [[(.25, .28), (.55, 0), (.55, 1)]],  # with a flag
    2: [[(.1, .25), (.35, 0), (.8, .08), (.85, .35), (.1, 1), (.95, .97)]],
    3: [[(.1, .1), (.6, 0), (.85, .22), (.4, .47), (.9, .7), (.6, 1), (.08, .92)]],
    4: [[(.4, 0), (.05, .62), (.95, .62)], [(.7, .3), (.68, 1)]],  # of two strokes
    5: [[(.2, .05), (.15, .45), (.6, .4), (.9, .68), (.6, 1), (.1, .93)], [(.2, .05), (.85, .03)]],
    6: [[(.7, 0), (.25, .35), (.12, .75), (.45, 1), (.85, .8), (.6, .52), (.15, .7)]],
    7: [[(.08, .04), (.92, .02), (.4, 1)]],
    8: [[(.8, .12), (.45, 0), (.2, .22), (.75, .62), (.8, .88), (.45, 1), (.15, .82), (.3, .55),
         (.75, .3), (.8, .12)]],
    9: [[(.85, .2), (.5, 0), (.15, .22), (.45, .5), (.85, .25), (.82, .6), (.65, 1)]],
}


def write_digit(digit, rng, left, top, height):
    """Return strokes, lists of [x, y], of a digit as somebody may write it."""
    size = np.array([rng.uniform(.55, .75), 1]) * height
    return [(wobble(size * shape, rng, 0.012 * height) + (left, top)).tolist()
            for shape in SHAPES[digit]]


def write_number(digits, rng, height=120):
    """Return the strokes of a number, left to right; a digit is 0.55 to 0.75 of its height wide."""
    spacing = rng.uniform(0.9, 1.15)
    return [stroke for i, digit in enumerate(digits)
            for stroke in write_digit(digit, rng, 20 + spacing * height * i, rng.uniform(34, 46), height)]


def paint(strokes):
    """Return strokes as a picture, dark on light."""
    return to_image(1 - draw_lines(strokes, SIDE, SIDE, 24))


def part(html, name):
    """Return the text of a page's script element."""
    return re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', html, re.DOTALL)[1]


def data_of(html):
    return json.loads(part(html, "data"))


@pytest.fixture(scope="module")
def model(network):
    return checkpoints.load_checkpoint(network)[0]


@pytest.fixture(scope="module")
def test_set():
    return read_mnist(False)


@pytest.fixture(scope="module")
def html(network, test_set):
    images, labels = (tensor[:400] for tensor in test_set)
    return page.make_page(*checkpoints.load_checkpoint(network), images, labels)[0]


@pytest.fixture(scope="module")
def node(html):
    """node(function, argument): what JavaScript's function(network, argument) returns."""
    def call(function, argument=None):
        code = (part(html, "lenet") + part(html, "words") + "const argument = JSON.parse("
                "require('fs').readFileSync(0)), network = decodeWeights(argument.data);"
                f"console.log(JSON.stringify(({function})(network, argument.value)))")
        process = subprocess.run([NODE, "-e", code], capture_output=True, text=True, timeout=120,
                                 input=json.dumps({"data": data_of(html), "value": argument}))
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return call


@needs_node
def test_the_page_computes_what_torch_computes(node, model, test_set):
    images = test_set[0][:200]
    found = node("(network, views) => views.map(view => [...forward(network, view).output])",
                 images.flatten(1).tolist())
    with torch.inference_mode():
        expected = page.forward(page.round_weights(model), utils.to_inputs(images))
    assert np.abs(np.array(found) - expected.numpy()).max() < 1e-3


@needs_node
def test_the_page_judges_a_view_as_predict_py_does(node, model, test_set):
    sides = np.flatnonzero([label in (1, 7, 9) for label in test_set[1][:300]])[:40]  # also on its side
    views = [np.rot90(image, i % 2).copy() for i, image in enumerate(test_set[0][sides].numpy())]
    found = np.array(node("(network, views) => views.map(view => judgeView(network, view))",
                          [view.ravel().tolist() for view in views]))
    apart = np.abs(found - read_views(model, views)).max(axis=1)
    standing = model(utils.to_inputs(np.stack(views)))[1].detach().numpy()
    assert apart.mean() < 0.25 * np.abs(found - standing).max(axis=1).mean()  # turned at 28x28


@pytest.mark.slow
def test_half_precision_changes_no_answer(network, test_set):
    model, metadata = checkpoints.load_checkpoint(network)
    made, note = page.make_page(model, metadata, *test_set)
    assert note.startswith("half precision changes 0 of 10000 answers")
    forward = model.forward
    model.forward = lambda x: forward(x)[0]  # as a model.py may have it
    assert page.make_page(model, metadata, *test_set) == (made, note)


@needs_node
@pytest.mark.slow
def test_a_drawn_digit_is_framed_as_predict_py_frames_it(node, model):
    rng = np.random.default_rng(0)
    drawn = [write_digit(i % 10, rng, 90, 70, rng.uniform(170, 240)) for i in range(50)]
    shifted = [[[(x + 1 / 6, y + 1 / 6) for x, y in stroke] for stroke in strokes] for strokes in drawn]
    found = node(f"""(network, drawn) => drawn.map(
        strokes => [...frameStrokes(strokes, {NIB}, 256 / {SIDE})])""", shifted)
    readings = predict.predict_images([paint(strokes) for strokes in drawn], model)
    difference = [np.abs(np.reshape(view, (28, 28)) - reading.digits[0].view.astype(float)).mean()
                  for view, reading in zip(found, readings) if len(reading.digits) == 1]
    assert len(difference) >= 45
    assert np.mean(difference) < 2 and np.median(difference) < 0.6  # a few lie one pixel beside


READ = f"""(network, drawings) => drawings.map(strokes => {{
    const {{text, probability, digits}} = makeReader(network, {NIB}, 256 / {SIDE})(strokes);
    return [text, probability, digits.length];
}})"""


@needs_node
def test_strokes_are_grouped_into_digits(node):
    rng = np.random.default_rng(1)
    numbers = ["4", "1", "7", "41", "57", "1998", "90210"]  # a 4 of two strokes, a 1 with a flag
    readings = node(READ, [write_number(map(int, number), rng) for number in numbers * 3])
    wrong = [(number, text) for number, (text, *_) in zip(numbers * 3, readings) if text != number]
    assert len(wrong) <= 1, wrong


@needs_node
def test_what_is_no_digit_is_doubted(node):
    dot, dash = [[100, 100]], [[60, 100], [200, 102]]
    zigzag = [[60 + 12 * i, 60 + 90 * (i % 2)] for i in range(14)]
    three_lines = [[[60, y], [200, y]] for y in (100, 150, 200)]
    drawings = [[], [dot], [dash], [zigzag], three_lines]
    for text, probability, _ in node(READ, drawings):
        assert probability < predict.output.SURE or not text


@needs_node
def test_lines_are_read_from_top_to_bottom(node):
    rng = np.random.default_rng(2)
    above, below = write_number((4, 2), rng), write_number((1, 7), rng)
    lower = [[[x, y + 200] for x, y in stroke] for stroke in below]
    assert node(READ, [lower + above])[0][0] == "42\n17"


@needs_node
def test_the_languages_say_the_same_things(node):
    english, chinese = node("() => Object.values(WORDS)")
    assert english.keys() == chinese.keys()
    for name in english:
        blanks = [sorted(re.findall(r"{\d}", str(words[name]))) for words in (english, chinese)]
        assert blanks[0] == blanks[1]
        assert isinstance(english[name], str) or len(english[name]) == len(chinese[name])


def test_a_page_asks_for_nothing(html):
    assert len(html.encode()) <= 400_000
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|@import|\bsrc=|\bfetch\b|<link", html)


def test_the_committed_page_is_the_committed_networks(network):
    layers = page.round_weights(checkpoints.load_checkpoint(network)[0])
    committed = COMMITTED.read_text(encoding="utf-8")
    found = data_of(committed)
    hint = "python predict.py --export Assets/lenet5.html --checkpoint Model/LeNet5.shipped.pth"
    for name, (weight, bias) in layers.items():
        expected = {"weight": page.encode(weight), "bias": page.encode(bias)}
        assert found["weights"][name] == expected, hint
    template = page.TEMPLATE.read_text(encoding="utf-8")
    assert committed.replace(part(committed, "data"), "") == template.replace("{{data}}", ""), hint


def test_the_data_cannot_leave_their_element(model, test_set):
    images, labels = (tensor[:100] for tensor in test_set)
    name = "</script><script>alert(1)</script>"
    html, _ = page.make_page(model, {"recipe": name}, images, labels)
    assert "alert" not in html.replace(part(html, "data"), "") and data_of(html)["recipe"] == name


class OtherLeNet(LeNet5):
    """A LeNet-5 with something else in it."""

    def __init__(self, activation=nn.Tanh, pool=nn.AvgPool2d, n_classes=10):
        super().__init__(n_classes)
        for module in (self.feature_extractor, self.classifier):
            for i, layer in enumerate(module):
                if isinstance(layer, nn.Tanh):
                    module[i] = activation()
                elif isinstance(layer, nn.AvgPool2d):
                    module[i] = pool(2)


@pytest.mark.parametrize("other", [dict(activation=nn.ReLU), dict(activation=nn.Sigmoid),
                                   dict(pool=nn.MaxPool2d), dict(n_classes=47)])
def test_another_network_is_refused(other):
    torch.manual_seed(0)
    assert page.round_weights(OtherLeNet().eval())
    with pytest.raises(utils.LeNetError, match="this network is another"):
        page.round_weights(OtherLeNet(**other).eval())


@pytest.mark.parametrize("name", ["page.png", "page", "page.html.gz"])
def test_other_names_are_refused(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["--export", str(tmp_path / name)])
    assert stop.value.code == 2 and ".html or .onnx" in capsys.readouterr().err


def test_onnx_says_what_it_needs(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(utils.LeNetError, match="pip install onnx onnxscript"):
        page.make_onnx(model)


# --------------------------------------------------------------------------------------------------
# As a person uses it

@pytest.fixture
def browser(html, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    with Browser(path, tmp_path / "profile") as browser:
        yield browser
        assert browser.errors == [] and browser.requests == [path.as_uri()]


def on_pad(browser, strokes, scale=1):
    """Return strokes in the window's pixels, on the page's drawing area."""
    box = browser.evaluate("JSON.stringify(document.getElementById('pad').getBoundingClientRect())")
    left, top = (json.loads(box)[side] for side in ("left", "top"))
    return [[(left + scale * x, top + scale * y) for x, y in stroke] for stroke in strokes]


@needs_chromium
@pytest.mark.slow
def test_a_person_draws(browser):
    rng = np.random.default_rng(4)
    for number in ("4", "1", "90210"):
        browser.evaluate("ACTIONS.c()")
        browser.draw(on_pad(browser, write_number(map(int, number), rng)))
        assert browser.wait("document.getElementById('reading').textContent.length") and \
            browser.wait(f"result.text === {number!r}", 5)
        assert browser.evaluate("result.probability") > predict.output.SURE
    browser.press("u")
    browser.wait("result.text === '9021'")
    browser.evaluate("while (past.length) ACTIONS.u()")
    browser.wait("state === EMPTY && !result.text")
    browser.press("r")
    browser.wait("state.sample && result.digits.length === 1")
    browser.press("t")
    browser.wait("angle >= 30")
    browser.evaluate("document.getElementById('language').click()")
    assert browser.evaluate("$('play').textContent.includes(say('stop'))")
    browser.press("t")
    browser.wait("!playing")
    assert browser.evaluate("document.documentElement.lang + document.title")


@needs_chromium
@pytest.mark.slow
def test_a_person_brings_pictures(browser):
    browser.drop(utils.ASSETS / "readme" / "photo.jpg", 300, 300)
    browser.wait("state.picture && result.text === '3'")
    browser.drop(utils.ROOT / "README.md", 300, 300)
    browser.wait("document.getElementById('note').textContent === say('badPicture')")


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 390, 720, 1440, 2560])
def test_every_width_and_theme(browser, width):
    browser.resize(width, 900)
    for dark in (False, True):
        browser.dark(dark)
        browser.wait(f"document.documentElement.dataset.theme === {'dark' if dark else 'light'!r}")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


@needs_chromium
@pytest.mark.slow
def test_by_keys_alone(browser):
    browser.evaluate("document.getElementById('pad').focus()")
    for key in [" ", *["ArrowDown"] * 18, " "]:
        browser.press(key)
    browser.wait("result.text === '1'")
    for key in ["ArrowRight", "ArrowRight", " ", "ArrowRight", "u", *["ArrowRight"] * 5]:
        browser.press(key)  # the pen is up once its stroke is undone
    browser.wait("result.text === '1' && state.strokes.length === 1 && !pen.down")
    names = browser.evaluate("""
        [...document.querySelectorAll('button, input, canvas[tabindex]')].map(element =>
            element.textContent.trim() || element.getAttribute('aria-label')
            || element.labels[0].textContent)""")
    assert all(names)
    browser.evaluate("document.getElementById('net').focus()")
    before = browser.evaluate("JSON.stringify(unit)")
    for key in ("ArrowRight", "PageDown", "ArrowDown"):
        browser.press(key)
    browser.wait(f"JSON.stringify(unit) !== {before!r} && unit.layer === 'S4'")
