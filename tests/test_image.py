"""reading/ opens what people send, and normalizes the digit in it, or says why there is none."""

import io
import json
import os

import cv2
import numpy as np
import pictures
import pytest
from PIL import Image, ImageDraw, ImageOps

from reading import binarize, image as picture
import predict
from reading.normalize import normalize_digit, stroke_width
from reading.output import SURE
from reading.posterior import Reading


def encodings(image):
    """Yield (name, file) of a picture in every way that a phone or a paint program may write it."""
    grey = image.convert("L")
    mask = grey.point(lambda value: 255 - value)

    def filled(mode, colour):
        layer = Image.new(mode, image.size, colour)
        layer.putalpha(mask)
        return layer

    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    animation = [image, Image.new("RGB", image.size, "red")]
    ways = {
        "RGB.png": (image, {}),
        "L.png": (grey, {}),
        "1.png": (image.convert("1"), {}),
        "P.png": (image.convert("P"), {}),
        "I;16.png": (sixteen, {}),
        "I;16.tif": (sixteen, {}),
        "F.tif": (grey.convert("F"), {}),
        "F up to 1.tif": (Image.fromarray(np.asarray(grey, dtype=np.float32) / 255), {}),
        "LA.png": (filled("LA", 0).convert("LA"), {}),
        "RGBA black ink.png": (filled("RGBA", (0, 0, 0, 0)), {}),
        "RGBA white ink.png": (filled("RGBA", (255, 255, 255, 0)), {}),
        "RGBA opaque.png": (image.convert("RGBA"), {}),
        "P transparent.png": (
            image.convert("P"),
            dict(transparency=image.convert("P").getpixel((0, 0))),
        ),
        "P transparent.gif": (
            image.convert("P"),
            dict(transparency=image.convert("P").getpixel((0, 0))),
        ),
        "RGB.jpg": (image, {}),
        "L.jpg": (grey, {}),
        "CMYK.jpg": (image.convert("CMYK"), {}),
        "CMYK.tif": (image.convert("CMYK"), {}),
        "turned by EXIF.jpg": (image.rotate(90, expand=True), dict(exif=exif)),
        "RGB.bmp": (image, {}),
        "1.bmp": (image.convert("1"), {}),
        "RGB.webp": (image, {}),
        "animated.gif": (image, dict(save_all=True, append_images=animation[1:])),
        "RGB.ppm": (image, {}),
        "L.pgm": (grey, {}),
        "RGB.tga": (image, {}),
        "RGB.ico": (image, {}),
        "huge.png": (image.resize((3000, 3000)), {}),
        "tiny.png": (image.resize((20, 20), Image.Resampling.BOX), {}),
        "wide.png": (wide(image), {}),
    }
    for name, (way, options) in ways.items():
        file = io.BytesIO()
        way.save(
            file,
            {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(
                name[-3:], name.split(".")[-1].upper()
            ),
            **options,
        )
        file.seek(0)
        yield name, file


def wide(image):
    page = Image.new("RGB", (2000, 220), "white")
    page.paste(image, (1700, 10))
    return page


def test_every_encoding(model, seven):
    names, files = zip(*encodings(seven))
    for name, reading in zip(names, predict.predict_images(files, model)):
        assert isinstance(reading, Reading) and reading.text == "7", f"{name}: {reading}"


MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX",
         "RGBa", "La", "I;16", "I;16L", "I;16B"]


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_every_mode_of_pillow_is_an_array(mode):
    array = picture.to_array(Image.new(mode, (5, 4)))
    assert array.shape[:2] == (4, 5) and array.dtype == np.float32 and np.isfinite(array).all()


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(model, seven, size):
    first, second = predict.predict_images([Image.new("L", size), seven], model)
    assert str(first) == "a picture without pixels" and second.text == "7"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_are_those_of_pillow(orientation):
    from PIL import ImageOps

    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8))
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal((picture.to_array(stored)[..., 0] * 255).round(), expected)


# When there is nothing to read


def empties():
    rng = np.random.default_rng(0)
    size = (200, 300)
    lines = np.full((*size, 3), 0.9)
    lines[20::40] = 0.6
    yield "white", np.ones((*size, 3))
    yield "black", np.zeros((28, 28, 3))
    yield "colour", np.ones((*size, 3)) * (0.3, 0.8, 0.2)
    yield "faint noise", 0.7 + rng.normal(0, 0.02, (*size, 3))
    yield "noise", rng.random((100, 150, 3))
    yield (
        "a page in falling light",
        0.9 * pictures.light(rng, *size) * np.ones(3) + rng.normal(0, 0.01, (*size, 3)),
    )
    yield "ruled paper", lines + rng.normal(0, 0.01, lines.shape)
    yield "ruled page on a screen", lines


@pytest.mark.parametrize(
    "name, array", list(empties()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_empty_picture_is_refused(model, name, array):
    (reading,) = predict.predict_images([pictures.to_image(array)], model)
    assert isinstance(reading, picture.NoDigit) and str(reading).startswith("no digit found")


@pytest.mark.parametrize("size, values", [(28, 256), (100, 2)], ids=["28x28", "salt and pepper"])
def test_noise_that_may_be_strokes_is_seldom_read_for_sure(model, size, values):
    noise = np.random.default_rng(0).integers(0, values, (20, size, size), dtype=np.uint8)
    readings = predict.predict_images(list(noise * (255 // (values - 1))), model)
    assert sum(getattr(reading, "probability", 0) >= SURE for reading in readings) <= 1


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 40), (40, 1), (2, 300), (5, 5)])
def test_a_tiny_picture_is_read_or_refused(model, size):
    rng = np.random.default_rng(0)
    for _ in range(20):
        (reading,) = predict.predict_images([pictures.to_image(rng.random((*size, 3)))], model)
        assert isinstance(reading, (Reading, picture.NoDigit))


def test_a_transparent_picture_without_ink_is_refused(model):
    for image in (Image.new("RGBA", (50, 50), (0, 0, 0, 0)), Image.new("LA", (50, 50), (255, 255))):
        assert isinstance(predict.predict_images([image], model)[0], picture.NoDigit)


# The steps of the chain


def first_look(image):
    return next(binarize.binarize(picture.to_array(image)))


def test_paper_in_falling_light_becomes_even():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:100j, -1:1:120j]
    page = (0.8 - 0.2 * x + 0.1 * y - 0.1 * x * y - 0.05 * y * y)[..., None] + rng.normal(
        0, 0.002, (100, 120, 3)
    )
    page[40:60, 50:55] -= 0.5
    difference, *_ = binarize.subtract_paper(page.astype(np.float32), 0.5)
    assert np.abs(difference[10:30]).max() < 0.05
    assert difference[45:55, 51:54].mean() == pytest.approx(-0.5, abs=0.04)


def test_the_edge_of_a_shadow_is_no_ink():
    page = np.full((120, 160, 3), 0.9, dtype=np.float32)
    page[:, 90:] *= 0.55
    page[50:70, 40:46] = 0.2
    difference, light, _ = binarize.subtract_paper(page, 0.5)
    assert (
        np.abs(np.delete(difference, np.s_[35:51], axis=1)).max() < 0.05
        and difference[55:65, 42:44].max() < -0.6
    )
    assert light[60, 150] == pytest.approx(0.55, abs=0.02) and light[60, 10] == 1


@pytest.mark.parametrize("slope", [0, 0.005, -0.01])
def test_ruling_is_taken_out_and_strokes_stay(slope):
    ruled = np.zeros((200, 300), dtype=np.uint8)
    cv2.line(ruled, (0, 120), (299, int(120 + 300 * slope)), 1, 2)
    strokes = np.zeros_like(ruled)
    cv2.line(strokes, (150, 60), (140, 110), 1, 5)
    mask = (ruled | strokes).astype(bool)
    for turn in (lambda a: a, lambda a: np.ascontiguousarray(a.T)):
        lines = binarize.find_ruling(turn(mask), 120)
        assert (lines & turn(ruled).astype(bool)).sum() > 0.9 * ruled.sum() and not (
            lines & turn(strokes).astype(bool)
        ).any()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_depth_that_a_camera_fills(seven, bits):
    grey = np.asarray(seven.convert("L")).astype(np.uint32) * (2**bits - 1) // 255
    file = io.BytesIO()
    Image.fromarray(grey.astype(np.uint16)).save(file, "PNG")
    assert picture.to_array(picture.open_picture(file)).max() > 0.95


def test_an_image_that_was_given_stays_as_it_was(seven):
    file = io.BytesIO()
    seven.resize((3000, 3000)).save(file, "JPEG")
    image = Image.open(file)
    assert picture.open_picture(image) is image and image.size == (3000, 3000)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(picture.PictureError, match="uint8"):
        picture.open_picture(array)


def test_a_heic_picture_says_what_it_takes():
    with pytest.raises(picture.PictureError, match="pillow-heif|decoded"):
        picture.open_picture(io.BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(40)))


def test_what_a_format_takes_is_told_and_the_picture_not_called_damaged(seven, monkeypatch):
    file = io.BytesIO()
    seven.save(file, "EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", False)
    with pytest.raises(picture.PictureError, match="can't be decoded .*Ghostscript") as error:
        picture.open_picture(file)
    assert "damaged" not in str(error.value)


def test_frame_is_mnists():
    digits, _ = pictures.digits(50)
    for digit in digits:
        original = (255 * digit).astype(np.uint8)
        big = Image.fromarray(original).resize((140, 140), Image.Resampling.BICUBIC)
        look = first_look(ImageOps.expand(big, 30))
        framed = normalize_digit(look.ink, look.mask).astype(float)
        mass = framed / framed.sum()
        centre = (mass.sum(1) @ np.arange(28), mass.sum(0) @ np.arange(28))
        assert centre == pytest.approx((13.5, 13.5), abs=0.75)
        assert 18 <= max(np.ptp(np.nonzero(framed), axis=1)) + 1 <= 20


def test_thin_strokes_are_widened(seven):
    thin = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(thin).line([(100, 100), (300, 100), (180, 330)], fill=0, width=2)
    look = first_look(thin)
    framed = normalize_digit(look.ink, look.mask)
    assert stroke_width(framed > 100) > 1.7


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(model, seven, tmp_path):
    path = tmp_path / "locked.png"
    seven.save(path)
    path.chmod(0)
    (error,) = predict.predict_images([path], model)
    assert str(error) == "no permission to read it"


def test_a_decompression_bomb_is_refused(model):
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    (error,) = predict.predict_images([io.BytesIO(file.getvalue())], model)
    assert "more than 120 million pixels" in str(error)


# Files that can't be opened, and files of several pages


def test_a_number_is_no_picture_and_the_program_s_files_stay_open(model, tmp_path):
    with open(tmp_path / "open", "wb") as file:
        for number in (file.fileno(), np.uint8(file.fileno()), 10**6, -1, True, 1.5):
            for given in (number, [number]):
                (error,) = predict.predict_images(given, model)
                assert isinstance(error, picture.PictureError)
                assert "can't be opened: " in str(error) or "an array has to be" in str(error)
        file.write(b"still open")


@pytest.mark.skipif(os.name == "nt", reason="Windows says that some of these don't exist")
@pytest.mark.parametrize(
    "path",
    ["n" * 300 + ".png", "a" * 300 + "/x.png", "model.py/x.png", "null\0byte.png", 3.5, "loop.png"],
)
def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path, path):
    if path == "loop.png":
        path = tmp_path / path
        path.symlink_to(path)
    with pytest.raises(picture.PictureError, match="can't be opened: .") as error:
        picture.open_picture(path)
    assert "damaged" not in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def pages(seven, tmp_path):
    """pages(name, n) -> a file of n pages, a 7 on the first, nothing on the others."""

    def make(name, n, first=None):
        blank = [
            Image.new("RGB", seven.size, (255, 255, 255 - 60 * i)) for i in range(1, n)
        ]  # alike ones are merged
        (first or seven).save(tmp_path / name, save_all=True, append_images=blank)
        return tmp_path / name

    return make


@pytest.mark.parametrize("kind", ["tif", "gif", "png", "webp"])
def test_of_several_pages_the_first_is_read_and_the_others_are_told_of(
    capsys, pages, network, kind
):
    several, one = pages(f"several.{kind}", 3), pages(f"one.{kind}", 1)
    assert predict.main([str(several), str(one), "--checkpoint", str(network)]) == 0
    out, err = capsys.readouterr()
    assert (
        out.count(": 7 (") == 2
        and err == f"predict.py: {several}: only the first of its 3 pages was read\n"
    )
    assert predict.main([str(several), "--json", "--checkpoint", str(network)]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["text"], answer["pages"]) == ("7", 3) and "first of its 3 pages" in err


def test_of_several_pages_a_first_one_that_is_blank_is_refused_with_that_word(capsys, pages, seven):
    path = pages("blank.tif", 2, Image.new("RGB", seven.size, "white"))
    assert predict.main([str(path)]) == 1
    assert capsys.readouterr().err == (
        f"predict.py: {path}: no digit found: the picture is blank, or noise; only the first of its 2 pages "
        "was read\n"
    )


@pytest.mark.parametrize("kind", ["tif", "gif"])
def test_a_later_page_that_is_damaged_does_not_matter(model, pages, kind):
    path = pages(f"cut.{kind}", 3)
    path.write_bytes(path.read_bytes()[:-60])
    (reading,) = predict.predict_images([path], model)
    assert reading.text == "7"


def test_a_picture_within_a_phone_s_picture_is_no_page(model, pages, seven):
    path = pages("phone.mpo", 2)
    assert Image.open(path).n_frames == 2
    assert predict.predict_images([path], model)[0].pages == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_grain_is_measured_beside_strokes_and_in_falling_light(channels, noise):
    page = np.linspace(0.6, 0.9, 200)[:, None, None] + noise * np.random.default_rng(
        0
    ).standard_normal((200, 200, 1))
    page[50:150, 90:110] -= 0.5
    page = np.broadcast_to(page, (200, 200, channels)).astype(np.float32)
    assert binarize.grain(page) / np.sqrt(channels) == pytest.approx(noise, rel=0.15)
    assert binarize.grain(np.zeros((5, 2, channels), np.float32)) == 0


@pytest.mark.parametrize("content, why", [
    (b"", "an empty file"), (b"%PDF-1.4", "a PDF"), (b"text", "not a picture in any format")])
def test_what_is_no_picture_is_named(content, why):
    with pytest.raises(picture.PictureError, match=why):
        picture.open_picture(io.BytesIO(content))


def test_noise_is_not_called_blank():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    (error,) = predict.predict_images(noise)
    assert isinstance(error, picture.PictureError) and str(error).endswith("blank, or noise")
