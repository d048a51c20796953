"""Read handwritten digits from pictures: any ink, any paper.

  python predict.py photo.jpg                  photo.jpg: 7 (99.8 %)
  python predict.py zip.jpg                    zip.jpg: 90210 (97.1 %)
  python predict.py scans/ a.png --json        many pictures, as JSON Lines
  python predict.py test.csv --csv labels.csv  a table of 28x28 images
  python predict.py photo.jpg --save seen.png  a figure of what was seen
  python predict.py photo.jpg --explain        what every layer did with it
  python predict.py photo.jpg --label 7        keep it, for train.py --mine
  python predict.py --draw                     a window to draw digits in
  python predict.py --multi                    50 random digits of MNIST
  python predict.py --export page.html         a page to draw in, in any browser

A question mark after a reading says that the network was not sure of it. In
folders, pictures are found however deep they lie, in natural order.
"""

import importlib.util
import os
import signal
import sys
from numbers import Integral
from pathlib import Path

if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"predict.py: {sys.executable} has no torch; the environment's Python has it: "
                 ".venv/bin/python predict.py (README.md says how to make one)")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback

import torch
from tqdm import tqdm

import utils
from figures import draw, page, readings, window
from reading import arguments, output
from reading.batches import read_each
from reading.image import PictureError, is_one
from reading.output import say, told
from reading.reader import most_prominent
from reading.sources import find_sources, would_read
from training import checkpoints, data, own_pictures
from training.judge import read_inputs, read_views
from utils import LeNetError, one_line

# -------------------------------------------------------------------------------------------------
# Reading

def predict_images(images, model=None, invert=None, checkpoint=None, device="cpu"):
    """Return a Reading, or the PictureError that kept it from one, for each of images.

    images: any iterable of paths, binary files, PIL images or uint8 arrays (H, W) or (H, W, 3 or
    4), such as an array (N, H, W); or just one of these. Raises LeNetError if the checkpoint can't
    be loaded, ValueError if invert or device makes no sense.
    """
    utils.keep_freed_memory()
    model = load_model(model, checkpoint, device)
    sources = [images] if is_one(images) else images
    return [reading for _, reading in read_sources(sources, model, invert)]


def read_sources(sources, model, invert=None):
    """Yield (PIL image or None, its Reading or PictureError) of each of sources, in order."""
    return read_each(sources, lambda views: read_views(model, views), invert)


def read_one(source, model, invert=None):
    """Return (PIL image or None, its Reading or the PictureError that kept it from one)."""
    return next(read_sources([source], model, invert))


def load_model(model, checkpoint, device):
    """Return model, or the one in the file checkpoint if it is None, ready to read."""
    if model is not None:
        return model.eval()
    model, metadata = checkpoints.load_checkpoint(checkpoint, device)
    checkpoints.check_digits(checkpoint, metadata)
    return model.to(memory_format=torch.channels_last)  # the faster layout


def read_number(img_path, invert=None, model=None, checkpoint=None, device="cpu"):
    """Return all digits in the picture at img_path, a string, lines separated by newlines.

    Raises PictureError, in one line, if there is no picture or no digit in it.
    """
    (reading,) = predict_images([img_path], model, invert, checkpoint, device)
    if isinstance(reading, PictureError):
        raise reading
    return reading.text


def single_predict(img_path, invert=None, model=None, save=None, show=False,
                   checkpoint=None, device="cpu", explain=False, return_figure=False):
    """Return the digit, 0..9, in the picture at img_path, of several the most prominent one.

    Its figure is written to save, if given, shown in a window or notebook, if show, and returned,
    (digit, Figure), if return_figure; with explain, it shows every layer of the network. invert:
    True if the ink is darker than the paper, False if lighter, None to find out. Raises
    PictureError, in one line, if there is no picture or no digit in it, ValueError if save is that
    picture.
    """
    is_path = isinstance(img_path, (str, os.PathLike))
    if save and is_path and would_read(os.fspath(img_path), Path(save)):
        raise ValueError(f"save: {save} is the picture to read; choose another name")
    model = load_model(model, checkpoint, device)
    image, reading = read_one(img_path, model, invert)
    if isinstance(reading, PictureError):
        raise reading
    digit = most_prominent(reading.digits).digit
    if not (save or show or return_figure):
        return digit
    figure = readings.plot([(image, reading)], model, invert, explain)
    publish(figure, save, show)
    return (digit, figure) if return_figure else digit


def multi_predict(n=50, seed=None, model=None, save=utils.ASSETS / "multi_predict.png", show=False,
                  checkpoint=None, device="cpu", data_dir=utils.DATA,
                  return_figure=False):
    """Read n random digits of MNIST's test set, draw them in a grid; return how many are misread.

    save, show and return_figure: as for single_predict(). Raises ValueError if n or seed is out of
    range.
    """
    if not isinstance(n, Integral) or n not in range(1, arguments.MOST + 1):
        raise ValueError(f"n has to be in 1 .. {arguments.MOST}, got {n!r}")
    if seed is not None and (not isinstance(seed, Integral) or not 0 <= seed < 2**63):
        raise ValueError(f"seed has to be in 0 .. 2**63 - 1, got {seed!r}")
    model = load_model(model, checkpoint, device)
    images, labels = data.load_mnist(False, data_dir)
    generator = torch.Generator().manual_seed(int(seed)) if seed is not None else None
    pick = torch.randperm(len(labels), generator=generator)[:n]
    images, labels = images[pick], labels[pick]
    figure, n_wrong = readings.plot_random(images, labels, read_inputs(model, images))
    publish(figure, save, show)
    return (n_wrong, figure) if return_figure else n_wrong


def publish(figure, save, show):
    """Write figure to the file save, if given, and show it, if show. Raises LeNetError."""
    if save:
        window.save_figure(figure, save)
    if show:
        window.open_window(figure)


# -------------------------------------------------------------------------------------------------
# Command line

def get_parser():
    status = "exit status: 0 all was read, 1 something was not, 2 a wrong call, 130 Ctrl-C"
    parser = utils.OneLineParser(prog="predict.py", description=__doc__,
                                 epilog=f"{output.SCHEMA}\n{status}")
    arguments.add_to(parser, utils.number)
    return parser


def check(args, parser):
    """Complete parsed arguments; return (what is to be done, the device).

    Raises ValueError, in one line, for a wrong call.
    """
    mode = arguments.check(args, parser)
    asked = {"save": "--save" if args.save else "--draw" if args.draw else "--explain"}
    if mode == "draw" or args.explain and not args.show:
        args.save = args.save or utils.ASSETS / ("drawing.png" if args.draw else "explain.png")
    for option in ("save", "csv", "export"):
        if path := getattr(args, option):
            utils.check_file(path, asked.get(option, f"--{option}"))
            if any(would_read(name, path) for name in args.images):
                raise ValueError(f"argument --{option}: {path} is among the pictures to read, or "
                                 "would be the next time; choose another name and folder")
    if args.save:
        window.find_format(args.save)
        if args.csv and os.path.realpath(args.csv) == os.path.realpath(args.save):
            raise ValueError(f"argument --save: {args.save} is the table's name, too")
    return mode, utils.pick_device(args.device)


def main(argv=None):
    """Run the command line argv; return the exit status."""
    parser = get_parser()
    args = arguments.parse(parser, sys.argv[1:] if argv is None else argv)
    try:
        mode, device = check(args, parser)
    except (ValueError, LeNetError) as error:
        parser.error(str(error))
    work = dict(draw=draw_and_read, export=export, multi=read_random, label=label_all,
                table=read_table, images=read_all)[mode]
    try:
        if args.checkpoint is None and mode != "label":
            args.checkpoint, note = checkpoints.choose_checkpoint()
            if note:
                complain(note)
        return work(args, device)
    except LeNetError as error:
        return complain(error)


def complain(*words):
    """Print one line on stderr in the script's name; return the exit status of work that failed."""
    print(one_line(": ".join(map(str, ("predict.py", *words)))), file=sys.stderr)
    return 1


def draw_and_read(args, device):
    model = load_model(None, args.checkpoint, device)
    window.open_window(draw.draw(lambda image: told(read_one(image, model)[1]), args.save,
                                 utils.DATA / "mine"), own_keys=True)
    return 0


def export(args, device):
    network = checkpoints.load_checkpoint(args.checkpoint)
    checkpoints.check_digits(args.checkpoint, network[1])
    print(one_line(page.export(args.export, *network, lambda: data.read_mnist(False))))
    return 0


def read_random(args, device):
    seed = torch.seed() % 2**32 if args.seed is None else args.seed
    path = args.save or utils.ASSETS / "multi_predict.png"
    wrong = multi_predict(args.multi, seed, None, path, args.show, args.checkpoint, device)
    digits = "1 test digit" if args.multi == 1 else f"{args.multi} test digits"
    print(f"{digits}, {wrong} misread (--seed {seed}): {one_line(path)}")
    return 0


def label_all(args, device):
    sources = find_sources(args.images)
    return own_pictures.keep_all(sources, int(args.label), utils.DATA / "mine", complain)


def read_table(args, device):
    """Read the images in a .csv table, write the digits to another; return the exit status."""
    model, digits = load_model(None, args.checkpoint, device), []
    try:
        for images in output.read_table(args.images[0]):
            digits += read_views(model, images).argmax(1).tolist()
    except PictureError as error:
        return complain(args.images[0], error)
    if not digits:
        return complain(args.images[0], "there are no images in it")
    utils.write_csv(args.csv, [("ImageId", "Label"), *enumerate(digits, 1)])
    print(one_line(f"{args.images[0]}: {len(digits):,} digits are in {args.csv}"))
    return 0


def read_all(args, device):
    """Read every picture that args ask for, print each as it is read; return the exit status.

    Ctrl-C keeps what has been read until then, in the table and the figure, too.
    """
    model = load_model(None, args.checkpoint, device)
    invert = {"auto": None, "yes": True, "no": False}[args.invert]
    utils.keep_freed_memory()
    sources, shown, rows, status = list(find_sources(args.images)), [], [], 0
    off = None if len(sources) > 1 else True  # None: off unless stderr is a terminal
    try:
        found = read_sources((source for _, source in sources), model, invert)
        progress = tqdm(sources, leave=False, disable=off, unit=" pictures")
        for (name, _), (image, reading) in zip(progress, found):
            if args.single and not isinstance(reading, PictureError):
                reading = output.single(reading)
            rows.append(output.as_row(name, reading))
            if (args.save or args.show) and len(shown) < readings.MOST:
                shown.append((image, reading))
            with tqdm.external_write_mode():
                status = tell(name, reading, args.json) or status
    except KeyboardInterrupt:
        complain(f"stopped; {len(rows)} of {len(sources)} pictures were read")
        status = 130
    if args.csv:
        utils.write_csv(args.csv, [output.COLUMNS, *rows])
    if shown and not (args.explain and status):
        figure = readings.plot(shown, model, invert, args.explain, [name for name, *_ in rows])
        publish(figure, args.save, args.show)
        if len(rows) > len(shown):
            complain(f"the figure has room for the first {len(shown)} of {len(rows)} pictures")
        if args.explain and args.save == utils.ASSETS / "explain.png":
            complain(f"the layers are in {args.save}")
    return status


def tell(name, reading, as_json):
    """Print one reading, or why there is none; return 1 in that case."""
    if as_json:
        print(output.as_json(name, reading), flush=True)
    elif isinstance(reading, PictureError):
        complain(name, reading)
    else:
        print(f"{one_line(name)}: {say(reading)}", flush=True)
    if getattr(reading, "pages", 1) > 1:
        complain(name, output.unread(reading.pages))
    return int(isinstance(reading, PictureError))


if __name__ == "__main__":
    sys.exit(utils.run_script(main, "predict.py"))
