"""Make the README's figures, in Assets/readme.

    python tests/make_figures.py        all but the following: what the shipped network is, learnt
                                        from and makes of pictures
    python tests/make_figures.py mine   trains with fifty pictures of a made-up hand, two minutes:
                                        mine.png
    python tests/make_figures.py gif    trains for eight epochs, half a minute: training.gif

The pictures come from MNIST's validation digits, some by the generator in pictures.py, so anybody
gets the same ones.
"""

import csv
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from figures import draw  # noqa: E402
import hand  # noqa: E402
from training import checkpoints  # noqa: E402
from training import augment, data, negatives, report, styles  # noqa: E402
import pages  # noqa: E402
from reading import binarize, candidates as proposals  # noqa: E402
from reading.image import PictureError, to_array  # noqa: E402
from reading.reader import ask, most_prominent  # noqa: E402
import pictures  # noqa: E402
import make_film  # noqa: E402
from figures import layers, plots, readings, window  # noqa: E402
import predict  # noqa: E402
import train  # noqa: E402
import utils  # noqa: E402


ASSETS = utils.ASSETS / "readme"


def difficult():
    """Return [(name, PIL image, digit)]: one picture for each way in which real pictures are
    difficult."""
    digits, labels = pictures.digits(40, seed=5)
    rng = np.random.default_rng(7)

    def transparent(digit, rng):
        image = Image.new("RGBA", (160, 160), (255, 255, 255, 0))
        image.putalpha(pictures.to_image(pictures.enlarge(digit, 160)))
        return image

    def yellow(digit, rng):
        ink = pictures.place(pictures.pen_line(digit, 130, 5), rng, 220, 260)
        return pictures.shoot(ink, rng, np.array([0.95, 0.85, 0.2]), np.array([0.15, 0.2, 0.75]))

    def red_on_green(digit, rng):
        ink = pictures.place(pictures.enlarge(digit, 120), rng, 180, 220)
        return pictures.shoot(ink, rng, np.array([0.15, 0.6, 0.25]), np.array([0.85, 0.3, 0.3]))

    def tilted(digit, rng):
        ink = pictures.tight(pictures.rotate(pictures.enlarge(digit, 120), 32))
        return pictures.shoot(
            pictures.place(ink, rng, 190, 230),
            rng,
            np.array([0.9, 0.9, 0.88]),
            np.array([0.1, 0.1, 0.2]),
        )

    def shadow(digit, rng):
        ink = pictures.place(pictures.enlarge(digit, 130), rng, 190, 240)
        photo = np.asarray(
            pictures.shoot(ink, rng, np.array([0.95, 0.93, 0.9]), np.array([0.1, 0.1, 0.15])),
            dtype=np.float32,
        )
        y, x = np.mgrid[-1:1:190j, -1:1:240j]
        return pictures.to_image(
            photo / 255 * (1 - 0.4 / (1 + np.exp(-12 * (x + 0.5 * y))))[..., None]
        )

    kinds = {
        "blue on yellow": yellow,
        "red on green, equally light": red_on_green,
        "tilted by 32 degrees": tilted,
        "half in a shadow": shadow,
        "ruled paper": pictures.ruled,
        "ballpoint": pictures.ballpoint,
        "paint program": pictures.paint,
        "transparent, white ink": transparent,
        "table beside the sheet": pictures.sheet_edge,
        "28x28, impulse noise": pictures.corrupted(pictures.impulse_noise),
        "28x28, fog": pictures.corrupted(pictures.fog),
        "28x28, stripes": pictures.corrupted(pictures.stripe),
    }
    return [(name, kind(digits[i], rng), labels[i]) for i, (name, kind) in enumerate(kinds.items())]


def plot_predictions(model):
    """Return a Figure of difficult pictures beside what the network saw of them and what it
    said."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 6.6), layout="constrained")
    grid = figure.subplots(4, 6)
    names, images, labels = zip(*difficult())
    for i, (name, image, label, reading) in enumerate(
        zip(names, images, labels, predict.predict_images(images, model))
    ):
        shown, seen = grid.flat[2 * i], grid.flat[2 * i + 1]
        shown.imshow(plots.as_rgb(to_array(image)), aspect="equal")
        shown.set_title(name, fontsize=9)
        said = "no digit found" if isinstance(reading, PictureError) else predict.say(reading)
        seen.set_title(
            said, fontsize=10, color=plots.INK if said.startswith(str(label)) else plots.WRONG
        )
        if not isinstance(reading, PictureError):
            seen.imshow(most_prominent(reading.digits).view, cmap="gray", vmin=0, vmax=255)
    for ax in grid.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.suptitle(
        "Pictures as given, what the network saw, and what it said (in red if wrong)", fontsize=12
    )
    return figure


def take_photograph():
    """Return a photograph of a digit on squared paper, as a JPEG file's bytes."""
    digits, _ = pictures.digits(40, seed=5)
    rng = np.random.default_rng(3)
    ink = pictures.place(pictures.pen_line(digits[13], 110, 4), rng, 200, 240)
    lines = pictures.ruling(rng, 200, 240, squared=True)
    photo = pictures.shoot(
        ink,
        rng,
        np.array([0.93, 0.88, 0.75]),
        np.array([0.2, 0.25, 0.6]),
        lines,
        np.array([0.75, 0.7, 0.8]),
    )
    return photo.fp.getvalue()


def plot_chain(photo, model):
    """Return a Figure that walks one photograph, a PIL image, through the chain, step by step."""
    from matplotlib.figure import Figure

    array = to_array(photo)
    difference, *_ = binarize.subtract_paper(array, 0.5)
    look = next(binarize.binarize(array))
    reader = proposals.find_candidates(look)
    candidates = ask(reader, lambda views: predict.read_views(model, views))
    (main,) = proposals.choose(candidates)
    left, top, right, bottom = candidates.boxes[main]
    mask = np.zeros_like(look.mask)
    mask[top:bottom, left:right] = look.mask[top:bottom, left:right]
    (reading,) = predict.predict_images([photo], model)
    main_digit = most_prominent(reading.digits)
    steps = [
        ("1  the photograph", array, {}),
        ("2  minus the paper", 0.5 + difference, {}),
        ("3  ink: distance from\npaper along one colour axis", look.ink, dict(cmap="gray")),
        ("4  above half of full ink;\nsegments that may be a digit", mask, dict(cmap="gray")),
        (
            "5  20x20, centre of mass\nin the middle of 28x28",
            candidates.views[main],
            dict(cmap="gray"),
        ),
        (
            "6  resized to 32x32:\nLeNet-5's input",
            utils.resize(torch.from_numpy(main_digit.view[None]))[0, 0],
            dict(cmap="gray"),
        ),
    ]
    figure = Figure(figsize=(9.4, 5.3), layout="constrained")
    grid = figure.subplots(2, 4, width_ratios=[1, 1, 1, 1])
    for ax, (name, array, options) in zip(grid.flat, steps):
        ax.imshow(np.clip(array, 0, 1) if array.ndim == 3 else array, **options)
        ax.set_title(name, fontsize=10)
        ax.axis("off")
    plots.plot_bars(grid[1, 2], main_digit.probabilities)
    grid[1, 2].set_title(f"7  the reading:\n{predict.say(reading)}", fontsize=10)
    grid[1, 2].set(xlabel="probability (%)", box_aspect=1)
    grid[1, 3].imshow(np.clip(to_array(photo), 0, 1))
    plots.mark_digits(grid[1, 3], reading, to_array(photo).shape)
    grid[1, 3].set_title("8  and where it was found", fontsize=10)
    grid[1, 3].axis("off")
    figure.suptitle("From a photograph to LeNet-5's reading\n", fontsize=12)
    return figure


def plot_filters(model, image):
    """Return a Figure of C1: its six filters and the maps they make of image, uint8 (1, 32, 32)."""
    from matplotlib.figure import Figure

    c1 = model.feature_extractor[:2]  # convolution and tanh
    weights = c1[0].weight.detach()[:, 0].numpy()
    with torch.no_grad():
        maps = c1(utils.standardise(image[None].float().div_(255)))[0].numpy()
    figure = Figure(figsize=(9.4, 3.5), layout="constrained")
    grid = figure.subplots(2, 7)
    largest = np.abs(weights).max()
    for i in range(6):
        filters = grid[0, i + 1].imshow(weights[i], cmap="RdBu_r", vmin=-largest, vmax=largest)
        answers = grid[1, i + 1].imshow(maps[i], cmap="RdBu_r", vmin=-1, vmax=1)
        grid[0, i + 1].set_title(f"filter {i + 1}", fontsize=10)
        grid[1, i + 1].set_title(f"map {i + 1}", fontsize=10)
    grid[1, 0].imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
    grid[1, 0].set_title("input, 32x32", fontsize=10)
    for ax in grid.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_color(plots.PALE)
    grid[0, 0].axis("off")
    grid[0, 0].text(
        0.5,
        0.5,
        "red: ink here\nraises the sum\n\nblue: ink here\nlowers it",
        ha="center",
        va="center",
        fontsize=10,
        color=plots.INK,
        transform=grid[0, 0].transAxes,
    )
    figure.colorbar(filters, ax=grid[0], label="weight", aspect=10)
    figure.colorbar(answers, ax=grid[1], label="tanh of the sum", ticks=(-1, 0, 1), aspect=10)
    figure.suptitle(
        "What layer C1 has learnt: six 5x5 filters, and the 28x28 maps they make of one digit",
        fontsize=12,
    )
    return figure


def draw_seven(model):
    """Return the drawing window's Figure after a hand has drawn a 7 in it, by the mouse events that
    it would have sent."""
    from matplotlib.backend_bases import MouseEvent
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw.draw(lambda image: predict.told(*predict.predict_images([image], model)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()

    def send(kind, point):
        MouseEvent(kind, canvas, *figure.axes[0].transData.transform(point), 1)._process()

    t = np.linspace(0, 1, 20)
    bar = np.stack([90 + 200 * t, 85 + 14 * np.sin(6 * t)], axis=1)
    leg = np.stack([290 - 130 * t + 25 * np.sin(3 * t), 85 + 240 * t], axis=1)
    send("button_press_event", bar[0])
    for point in [*bar, *leg]:
        send("motion_notify_event", point)
    send("button_release_event", leg[-1])
    figure.catch_up()
    return figure


def plot_lesson(images, before, after):
    """Return a Figure of pictures of 4s, and of what two networks, before and after a lesson, say
    of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 2.5))
    figure.suptitle(
        "One hand's 4s, none of them trained on: before and after 50 others with train.py --mine",
        fontsize=12,
    )
    for i, (image, *said_of) in enumerate(zip(images, before, after)):
        ax = figure.add_axes((0.01 + 0.164 * i, 0.24, 0.15, 0.6), anchor="S", xticks=[], yticks=[])
        ax.imshow(plots.as_rgb(to_array(image)))
        for y, name, reading in zip((0.20, 0.10), ("before: ", "after: "), said_of):
            said = "nothing" if isinstance(reading, PictureError) else predict.say(reading)
            figure.text(0.085 + 0.164 * i, y, name + said, ha="center", va="top", fontsize=10,
                        color=plots.INK if said.startswith("4") else plots.WRONG)
    return figure


def plot_ingredients(images, labels):
    """Return a Figure of what each ingredient of the recipe does to digits: one row for each."""
    digits = torch.stack([images[labels == digit][0] for digit in range(10)])
    rows, names = [digits], ["MNIST"]
    batch = digits.repeat(4, 1, 1, 1).float() / 255  # of four, one is thicker and one thinner
    chosen = ["affine", "random-rotation", "elastic"]
    for name, ingredients, row in (
        ("affine", chosen[:1], 0), ("+ random-rotation", chosen[:2], 0), ("+ elastic", chosen, 0),
        ("thicker", ["stroke-thickness"], 0), ("thinner", ["stroke-thickness"], 1),
    ):
        distort = augment.make_augment(ingredients)
        made = distort(batch, torch.Generator().manual_seed(1)).view(4, *digits.shape)
        rows.append(made[row])
        names.append(name)
    generator = torch.Generator().manual_seed(0)
    index, others = styles.other_styles(images[:1000], labels[:1000], generator)
    for name, digit in ("styles: flags", 1), ("styles: bars", 7):
        rows.append(others[labels[:1000][index] == digit][:10])
        names.append(name)
    made = negatives.make_negatives(images[:1000], labels[:1000], 1000, 1, generator)
    rows.append(made[torch.linspace(0, len(made) - 1, 10).long()])
    names.append("negatives")
    return plots.plot_rows(rows, names, "What each ingredient makes of training digits")


def shipped_history():
    """Return the epochs of the shipped network's training, as report.py takes them."""
    with open(utils.SHIPPED.with_name("LeNet5.shipped.history.csv"), newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def show_pages(model, folder):
    """Draw two made-up pages of numbers into folder: the first that is read correctly and surely,
    number.png, and the first that is misread, misread.png, with what is written there."""
    wanted = {"number", "misread"}
    for seed in range(100):
        (page,), (truth,) = pictures.make_numbers(pages.page, 1, seed=seed)
        file = io.BytesIO()
        page.convert("RGB").save(file, "JPEG", quality=85)
        image, reading = predict.read_one(file, model)
        if isinstance(reading, PictureError) or len(reading.text.split()) < 3:
            continue
        right = reading.text == truth
        name = "number" if right else "misread"
        if name not in wanted or right and reading.probability < 0.95:
            continue
        wanted.remove(name)
        (folder / f"{name}.jpg").write_bytes(file.getvalue())
        figure = readings.plot([(image, reading)])
        if not right:
            written = " / ".join(truth.split())
            figure.axes[0].set_title(
                f"read: {predict.say(reading)}\nwritten: {written}", fontsize=12
            )
        window.save_figure(figure, folder / f"{name}.png")
        if not wanted:
            return


def learn_a_hand(path):
    """Train with fifty pictures of tests/hand.py's hand, draw to path how it is read before and
    after; say it in numbers."""
    with tempfile.TemporaryDirectory() as folder:
        data, net = Path(folder) / "data", Path(folder) / "net.pth"
        (data / "mine" / "4").mkdir(parents=True)
        (data / "MNIST").symlink_to(utils.DATA / "MNIST")
        for i, image in enumerate(hand.fours(50, seed=3)):
            image.convert("RGB").save(data / "mine" / "4" / f"{i}.png")
        train.main(
            ["--mine", "--data-dir", str(data), "--checkpoint", str(net), "--assets-dir", folder]
        )
        images = hand.fours(200, seed=4)
        before, after = (
            predict.predict_images(images, checkpoint=checkpoint)
            for checkpoint in (utils.SHIPPED, net)
        )
    for name, results in ("before", before), ("after", after):
        print(
            name,
            sum(getattr(reading, "text", None) == "4" for reading in results),
            "of",
            len(images),
        )
    window.save_figure(plot_lesson(images[:6], before, after), path)


if __name__ == "__main__":
    if sys.argv[1:] == ["gif"]:
        train_set, valid_set, _ = data.load_data(utils.DATA, "cpu")
        make_film.film(train_set, valid_set, ASSETS / "training.gif")
    elif sys.argv[1:] == ["mine"]:
        learn_a_hand(ASSETS / "mine.png")
    else:
        model, metadata = checkpoints.load_checkpoint(utils.SHIPPED)
        window.save_figure(layers.plot_architecture(model), ASSETS / "architecture.png")
        window.save_figure(plot_predictions(model), ASSETS / "predictions.png")
        (ASSETS / "photo.jpg").write_bytes(take_photograph())
        photo = Image.open(ASSETS / "photo.jpg")
        window.save_figure(plot_chain(photo, model), ASSETS / "chain.png")
        predict.single_predict(
            ASSETS / "photo.jpg", model=model, save=ASSETS / "explain.png", explain=True
        )
        show_pages(model, ASSETS)
        window.save_figure(draw_seven(model), ASSETS / "draw.png")
        sets = data.load_data(utils.DATA, "cpu")
        report.write_figures(
            model, shipped_history(), sets[0], sets[2], "cpu", ASSETS, metadata["settings"]
        )
        window.save_figure(plot_ingredients(*sets[0]), ASSETS / "ingredients.png")
        images, labels = sets[1]
        window.save_figure(plot_filters(model, images[labels == 0][0]), ASSETS / "filters.png")
