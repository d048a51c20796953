"""Make the README's figures of predict.py.

    python tests/figures.py        writes Assets/predictions.png and Assets/chain.png

The pictures come from MNIST's validation digits by the generator in pictures.py, so anybody gets the same ones.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pictures  # noqa: E402
import predict  # noqa: E402
import utils  # noqa: E402


def difficult():
    """Return [(name, PIL image, digit)]: one picture for each way in which real pictures are difficult."""
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
        return pictures.shoot(pictures.place(ink, rng, 190, 230), rng, np.array([0.9, 0.9, 0.88]), np.array([0.1, 0.1, 0.2]))

    def shadow(digit, rng):
        ink = pictures.place(pictures.enlarge(digit, 130), rng, 190, 240)
        photo = np.asarray(pictures.shoot(ink, rng, np.array([0.95, 0.93, 0.9]), np.array([0.1, 0.1, 0.15])), dtype=np.float32)
        y, x = np.mgrid[-1:1:190j, -1:1:240j]
        return pictures.to_image(photo / 255 * (1 - 0.4 / (1 + np.exp(-12 * (x + 0.5 * y))))[..., None])

    kinds = {"blue on yellow": yellow, "red on green, equally light": red_on_green, "tilted by 32 degrees": tilted,
             "half in a shadow": shadow, "ruled paper": pictures.ruled, "ballpoint": pictures.ballpoint,
             "paint program": pictures.paint, "transparent, white ink": transparent,
             "table beside the sheet": pictures.sheet_edge, "28x28, impulse noise": pictures.corrupted(pictures.impulse_noise),
             "28x28, fog": pictures.corrupted(pictures.fog), "28x28, stripes": pictures.corrupted(pictures.stripe)}
    return [(name, kind(digits[i], rng), labels[i]) for i, (name, kind) in enumerate(kinds.items())]


def plot_predictions(model):
    """Return a Figure of difficult pictures beside what the network saw of them and what it said."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 6.6), layout="constrained")
    grid = figure.subplots(4, 6)
    names, images, labels = zip(*difficult())
    for i, (name, image, label, reading) in enumerate(zip(names, images, labels, predict.predict_images(images, model))):
        picture, seen = grid.flat[2 * i], grid.flat[2 * i + 1]
        array = predict.to_array(image)
        picture.imshow(np.clip(np.broadcast_to(array, (*array.shape[:2], 3)), 0, 1), aspect="equal")
        picture.set_title(name, fontsize=9)
        said = "no digit found" if isinstance(reading, utils.LeNetError) else predict.say(reading)
        seen.set_title(said, fontsize=10, color=utils.INK if said.startswith(str(label)) else utils.WRONG)
        if not isinstance(reading, utils.LeNetError):
            seen.imshow(reading.input, cmap="gray", vmin=0, vmax=255)
    for ax in grid.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.suptitle("Pictures as given, what the network saw, and what it said (in red if wrong)", fontsize=12)
    return figure


def plot_chain(model):
    """Return a Figure that walks one photograph through the chain, step by step."""
    from matplotlib.figure import Figure

    digits, _ = pictures.digits(40, seed=5)
    rng = np.random.default_rng(3)
    ink = pictures.place(pictures.pen_line(digits[13], 110, 4), rng, 200, 240)
    lines = pictures.ruling(rng, 200, 240, squared=True)
    photo = pictures.shoot(ink, rng, np.array([0.93, 0.88, 0.75]), np.array([0.2, 0.25, 0.6]), lines, np.array([0.75, 0.7, 0.8]))
    array = predict.to_array(photo)
    difference, exact = predict.subtract_paper(array)
    ink, _ = predict.find_ink(difference)
    mask, level = predict.find_digit(ink, exact)
    framed = predict.frame(ink, mask, level)
    (reading,) = predict.predict_images([photo], model)
    steps = [("1  the photograph", array, {}), ("2  minus the paper", 0.5 + difference, {}),
             ("3  ink: distance from\npaper along one colour axis", ink, dict(cmap="gray")),
             ("4  above half of full ink,\nthe heaviest piece", mask, dict(cmap="gray")),
             ("5  20x20, centre of mass\nin the middle of 28x28", framed, dict(cmap="gray")),
             ("6  resized to 32x32:\nLeNet-5's input", reading.input, dict(cmap="gray"))]
    figure = Figure(figsize=(9.4, 5.6), layout="constrained")
    grid = figure.subplots(2, 4)
    places = [grid[0, 0], grid[0, 1], grid[0, 2], grid[0, 3], grid[1, 0], grid[1, 1]]
    for ax, (name, picture, options) in zip(places, steps):
        ax.imshow(np.clip(picture, 0, 1) if picture.ndim == 3 else picture, **options)
        ax.set_title(name, fontsize=10)
        ax.axis("off")
    bars = figure.add_subplot(grid[1, 2].get_gridspec()[1, 2:])
    for ax in grid[1, 2:]:
        ax.remove()
    bars.bar(range(10), [100 * p for p in reading.probabilities], color=utils.INK, label=f"LeNet-5 says {predict.say(reading)}")
    bars.set(xticks=range(10), xlabel="digit", ylabel="probability (%)", ylim=(0, 118), title="7  the reading")
    bars.legend(loc="upper left")
    figure.suptitle("From a photograph to LeNet-5's input", fontsize=12)
    return figure


if __name__ == "__main__":
    model, _ = utils.load_checkpoint()
    utils.save_figure(plot_predictions(model), utils.ASSETS / "predictions.png")
    utils.save_figure(plot_chain(model), utils.ASSETS / "chain.png")
