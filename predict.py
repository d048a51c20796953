"""Read handwritten digits from pictures.

    python predict.py image.png                     one line: image.png: 7 (99.8 %)
    python predict.py zip.jpg                       a whole number, or lines of them: zip.jpg: 90210 (97.1 %)
    python predict.py scans/ photo.jpg --json       any number of pictures and folders, as JSON Lines
    python predict.py image.png --save seen.png     a figure: the picture, what the network saw, what it said
    python predict.py image.png --explain           the same figure with what every layer of the network did
    python predict.py --draw                        a window to draw a digit in, read while you draw
    python predict.py image.png --label 7           keep the picture as a 7 in data/mine, for train.py --mine to learn
    python predict.py --multi                       50 random digits of MNIST's test set, into Assets/
    python predict.py --export page.html            one file to draw in, in any browser; or lenet5.onnx

Ink of any colour on paper of any colour: what counts as ink is what differs from the paper. A question mark after a
reading says that the network was not sure. reading/ finds the digits in a picture.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: the end, without a traceback

import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from figures import draw
from figures import page
from training import checkpoints
from training import own_pictures
from training import data
from figures import plots, window
import utils
from reading.image import PictureError, open_file, open_picture, to_array
from reading.reader import most_prominent, read_picture
from reading.sources import find_sources, would_read
from utils import LeNetError, one_line

SURE = 0.80  # below this probability a reading gets a question mark


# ---------------------------------------------------------------------------------------------------------------------
# Reading

def predict_images(images, model=None, invert=None, checkpoint=None, device="cpu", shown=None):
    """Return a Reading, or the PictureError that kept it from one, for each of images.

    images: any iterable of paths, binary files, PIL images or uint8 arrays (H, W) or (H, W, 3 or 4), or just one of
    these. shown: a list, to which each picture is added as plots.py shows it, float (H, W, C), or None if there is
    none. Raises LeNetError only if the checkpoint can't be loaded.
    """
    utils.keep_freed_memory()
    model = load_model(model, checkpoint, device)
    return [read_source(source, model, invert, shown) for source in ([images] if is_one(images) else images)]


def read_source(source, model, invert, shown):
    """Return the Reading of one picture, or the PictureError that kept it from one."""
    array, pages = None, 1
    try:
        if isinstance(source, PictureError):
            raise source
        image = open_picture(source)
        pages = image.info.get("pages", 1)
        if shown is not None:
            array = to_array(image, 512)
        return read_picture(image, lambda views: read_views(model, views), invert)
    except PictureError as error:
        return type(error)(f"{error}; {unread(pages)}") if pages > 1 else error
    finally:
        if shown is not None:
            shown.append(array)


def is_one(images):
    """Say whether images is a picture by itself, and no iterable of pictures, though a file or an array can be iterated, too."""
    return (isinstance(images, (str, bytes, os.PathLike)) or not hasattr(images, "__iter__")
            or any(hasattr(images, name) for name in ("read", "__array__", "__array_interface__")))


def unread(pages):
    """Return what is said of a file with that many pages, more than 1."""
    return f"only the first of its {pages} pages was read"


def read_views(model, views):
    """Return the probabilities, float (N, 10) array, that model gives to views, uint8 (28, 28) arrays."""
    return read_inputs(model, utils.resize(torch.from_numpy(np.stack(views)))).numpy()


def single(reading):
    """Return a Reading of the most prominent digit of reading alone."""
    main = most_prominent(reading.digits)
    return reading._replace(text=str(main.digit), probability=main.probability, digits=[main._replace(line=0)])


def load_model(model, checkpoint, device):
    return checkpoints.load_checkpoint(checkpoint, device)[0] if model is None else model.eval()


@torch.inference_mode()
def read_inputs(model, inputs):
    """Return the probabilities, float (N, 10) on the CPU, that model gives to inputs, uint8 (N, 1, 32, 32)."""
    device = next(model.parameters()).device
    batches = (utils.standardise(part.to(device).float().div_(255)) for part in inputs.split(500))
    return torch.cat([utils.compute_logits(model, x).softmax(1).cpu() for x in batches])


def watch(model, view):
    """Return ({name: activations}, probabilities (10,)) of one digit, uint8 (28, 28), on its way through model.

    The activations of C1, S2, C3, S4, C5 and F6, after their tanh, are float arrays without a batch's dimension; "Input"
    is uint8 (32, 32).
    """
    inputs, outputs = utils.resize(torch.from_numpy(view[None])), []
    hooks = [module.register_forward_hook(lambda module, inputs, output: outputs.append(output[0].cpu().numpy()))
             for module in model.modules() if isinstance(module, (torch.nn.Tanh, torch.nn.AvgPool2d))]
    try:
        probabilities = read_inputs(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    layers = dict(zip(("C1", "S2", "C3", "S4", "C5", "F6"), outputs, strict=True))
    return layers | {"Input": inputs[0, 0].numpy()}, probabilities[0].numpy()


def read_number(img_path, invert=None, model=None, checkpoint=None, device="cpu"):
    """Return all digits in the picture at img_path as a string, lines separated by newlines; else as single_predict()."""
    return read_one(img_path, model, invert, checkpoint, device).text


def read_one(img_path, model, invert, checkpoint, device, shown=None):
    """Return the Reading of the picture at img_path; raises the PictureError that keeps it from one."""
    (reading,) = predict_images([img_path], model, invert, checkpoint, device, shown)
    if isinstance(reading, PictureError):
        raise reading
    return reading


def single_predict(img_path, invert=None, model=None, save=None, show=False, checkpoint=None, device="cpu",
                   explain=False):
    """Return the digit, 0..9, in the picture at img_path, of several the most prominent one.

    The figure about it is written to save, if given, and opened in a window, if show. invert: True if the ink is darker than the
    paper, False if it is lighter, None to find out. explain: the figure shows every layer of the network. Raises PictureError,
    in one line, if there is no picture or no digit in it.
    """
    model = load_model(model, checkpoint, device)
    shown = [] if save or show else None
    reading = read_one(img_path, model, invert, checkpoint, device, shown)
    if shown:
        publish(plot(shown, [reading], model if explain else None), save, show)
    return most_prominent(reading.digits).digit


def multi_predict(n=50, seed=None, model=None, save=utils.ASSETS / "multi_predict.png", show=False,
                  checkpoint=None, device="cpu", data_dir=utils.DATA):
    """Draw n random digits of MNIST's test set in a grid with what the network says; return how many it got wrong."""
    model = load_model(model, checkpoint, device)
    images, labels = data.load_mnist(False, data_dir)
    generator = torch.Generator().manual_seed(seed) if seed is not None else None
    pick = torch.randperm(len(labels), generator=generator)[:n]
    images, labels = images[pick], labels[pick]
    confidence, digits = read_inputs(model, images).max(1)
    wrong = digits != labels
    blank = "\n" if wrong.any() else ""  # keeps the titles of a row at one height
    titles = [f"{digit} ({100 * p:.0f} %)" + (f"\nis a {label}" if digit != label else blank)
              for digit, p, label in zip(digits.tolist(), confidence.tolist(), labels.tolist())]
    heading = f"{len(labels)} random test digits: reading and its probability; {wrong.sum().item()} wrong, in red"
    publish(plots.plot_digits(images, titles, wrong.tolist(), heading), save, show)
    return wrong.sum().item()


# ---------------------------------------------------------------------------------------------------------------------
# Figures

MOST_IN_FIGURE = 60


def plot(shown, readings, explain=None):
    """Return a Figure of pictures and of their readings; with a model to explain, of the one picture's way through it."""
    if explain is None:
        if len(readings) == 1 and not isinstance(readings[0], PictureError) and len(readings[0].digits) > 1:
            return plots.plot_number(*shown, *readings, say(*readings))
        mains = [None if isinstance(reading, PictureError) else most_prominent(reading.digits) for reading in readings]
        return plots.plot_readings(shown, *zip(*map(told, readings)), mains)
    (reading,) = readings
    main = most_prominent(reading.digits)
    layers, probabilities = watch(explain, main.view)
    heading = f"{say(reading)}: from the picture to the reading, through every layer of LeNet-5"
    if np.abs(probabilities - main.probabilities).max() > 0.001:
        heading = f"One of two views of the picture; the mean of both is read as {say(reading)}"
    return plots.plot_layers(*shown, main.box, layers, probabilities, heading)


def publish(figure, save, show):
    """Write figure to the file save, if given, and open it in a window, if show; raises LeNetError if that fails."""
    if save:
        window.save_figure(figure, save)
    if show:
        window.open_window(figure)


# ---------------------------------------------------------------------------------------------------------------------
# Command line

def say(reading):
    """Return a reading as people are told it."""
    return f"{' / '.join(reading.text.split())}{'' if reading.probability >= SURE else '?'} ({100 * reading.probability:.1f} %)"


def told(reading):
    """Return (reading, what is said of it) of a Reading, (None, why) of a PictureError."""
    return (None, str(reading)) if isinstance(reading, PictureError) else (reading, say(reading))


def get_parser():
    parser = utils.OneLineParser(prog="predict.py", description=__doc__)
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="pictures, folders of pictures, or - for one on standard input")
    add("--invert", choices=("auto", "yes", "no"), default="auto", help="is the ink darker than the paper?")
    add("--single", action="store_true", help="read one digit; of several, the most prominent one")
    add("--json", action="store_true", help="print JSON Lines, one object for each picture, and nothing else")
    add("--save", type=Path, metavar="FILE", help="write a figure of what was seen; with --draw, the drawing")
    add("--show", action="store_true", help="open that figure in a window")
    add("--explain", action="store_true",
        help="show in that figure what each layer of the network did; of one picture (default: Assets/explain.png)")
    add("--draw", action="store_true",
        help="open a window to draw a digit in and see it read; its s key saves the picture (default: Assets/drawing.png)")
    add("--label", metavar="DIGIT",
        help="keep the pictures, of one digit each, as that digit in data/mine; python train.py --mine learns them")
    add("--multi", type=int, nargs="?", const=50, metavar="N",
        help="read N (50) random digits of MNIST's test set instead, into a figure (default: Assets/multi_predict.png)")
    add("--export", type=Path, metavar="FILE",
        help="write the network as one file: .html, a page to draw in that needs nothing, or .onnx")
    add("--seed", type=int, help="of --multi's random digits, 0 or more")
    add("--checkpoint", type=Path, metavar="FILE",
        help="the weights (default: the shipped ones, or your last run's if they are no worse)")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    return parser


def check(args):
    """Return the device of parsed arguments; raises ValueError, in one line, for what can't be done."""
    if args.draw:
        others = dict(IMAGE=args.images, multi=args.multi is not None, explain=args.explain, json=args.json, show=args.show,
                      export=args.export, invert=args.invert != "auto", label=args.label is not None)
        refuse_others("--draw", others)
        args.save = args.save or utils.ASSETS / "drawing.png"
        if args.save.suffix.lower() != ".png":
            raise ValueError(f"argument --save: a drawing is saved as .png, got {args.save}")
    elif args.export:
        refuse_others("--export", dict(IMAGE=args.images, multi=args.multi is not None, explain=args.explain,
                                       json=args.json, show=args.show, save=args.save, label=args.label is not None,
                                       single=args.single, invert=args.invert != "auto"))
        if args.export.suffix not in (".html", ".onnx"):
            raise ValueError(f"argument --export: the name ends in .html or .onnx, got {args.export}")
        utils.check_file(args.export, "--export")
    elif args.multi is None and not args.images:
        raise ValueError("name a picture to read, --draw or --multi")
    if args.label is not None:
        refuse_others("--label", dict(multi=args.multi is not None, explain=args.explain, json=args.json, show=args.show,
                                      save=args.save, single=args.single, invert=args.invert != "auto"))
        if args.label not in draw.DIGITS:
            raise ValueError(f"argument --label: one digit, 0 to 9, which all the pictures show, got {args.label!r}")
    if args.multi is not None and args.images:
        raise ValueError("argument --multi: reads MNIST's own digits, so it takes no pictures")
    if args.multi is not None and not 1 <= args.multi <= 1000:
        raise ValueError(f"argument --multi: must be in 1 .. 1000, got {args.multi}")
    if args.multi is None and args.seed is not None:
        raise ValueError("argument --seed: has no meaning without --multi")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise ValueError(f"argument --seed: must be in 0 .. 2**32 - 1, got {args.seed}")
    if args.multi is not None and (args.json or args.invert != "auto"):
        raise ValueError("argument --multi: takes neither --json nor --invert")
    if args.explain and (len(args.images) != 1 or os.path.isdir(args.images[0])):
        raise ValueError("argument --explain: takes one picture")
    written = args.save or (utils.ASSETS / "explain.png" if args.explain and not args.show else None)
    if written:
        utils.check_file(written, "--save" if args.save else "--explain")
    if args.images.count("-") > 1:
        raise ValueError("argument IMAGE: standard input (-) can be read only once")
    if written and any(would_read(name, written) for name in args.images):
        raise ValueError(f"argument --save: {written} is among the pictures to read, or would be the next time; choose another "
                         "name and folder")
    return utils.pick_device(args.device)


def refuse_others(option, others):
    """Raise ValueError if any of others, {name: is it given?}, comes with option. IMAGE is the pictures' name."""
    useless = [name if name.isupper() else f"--{name}" for name, given in others.items() if given]
    if useless:
        raise ValueError(f"argument {option}: takes no {useless[0]}")


def label_all(args):
    """Keep every picture that args name as the digit that they say; return the exit status."""
    failed = False
    for name, source in find_sources(args.images):
        try:
            if isinstance(source, PictureError):
                raise source
            file = source if hasattr(source, "read") else open_file(source)
            path, n_digits = own_pictures.keep(file, os.path.splitext(name)[1], int(args.label), utils.DATA / "mine")
            where = utils.short_path(path)
            print(one_line(f"{name}: kept as a {args.label} in {where}, thank you; python train.py --mine learns it"))
            if n_digits > 1:
                print(f"predict.py: {one_line(name)}: {own_pictures.SEVERAL}", file=sys.stderr)
        except PictureError as error:
            failed = True
            print(f"predict.py: {one_line(name)}: {error}", file=sys.stderr)
    return 1 if failed else 0


def read_all(args, device):
    """Read every picture that args ask for, print what was read; return the exit status."""
    model = load_model(None, args.checkpoint, device)
    invert = {"auto": None, "yes": True, "no": False}[args.invert]
    shown = [] if args.save or args.show or args.explain else None
    sources, kept, failed, count = find_sources(args.images), [], False, 0  # kept: the readings of what is shown
    while chunk := list(itertools.islice(sources, 200)):
        names, images = zip(*chunk)
        count += len(chunk)
        readings = predict_images(images, model, invert, shown=shown)
        if args.single:
            readings = [reading if isinstance(reading, PictureError) else single(reading) for reading in readings]
        for name, reading in zip(names, readings):
            failed |= isinstance(reading, PictureError)
            tell(name, reading, args.json)
        if shown:
            kept = (kept + readings)[:MOST_IN_FIGURE]
            del shown[MOST_IN_FIGURE:]
    if args.explain and not failed:
        path = args.save or (None if args.show else utils.ASSETS / "explain.png")
        publish(plot(shown, kept, model), path, args.show)
        if path != args.save:
            print(f"predict.py: the layers are in {one_line(path)}", file=sys.stderr)
    elif shown:
        publish(plot(shown, kept), args.save, args.show)
        if count > len(kept):
            print(f"predict.py: the figure has room for the first {len(kept)} of {count} pictures", file=sys.stderr)
    return 1 if failed else 0


def draw_and_read(args, device):
    """Open the window to draw in; return the exit status once it is closed."""
    model = load_model(None, args.checkpoint, device)
    window.open_window(draw.draw(lambda image: told(*predict_images([image], model)), args.save, utils.DATA / "mine"),
                      own_keys=True)
    return 0


def tell(name, reading, as_json):
    """Print one reading, or what kept it from being one."""
    if as_json and isinstance(reading, PictureError):
        print(json.dumps({"image": name, "error": str(reading)}))
    elif as_json:
        main = reading.digits[0]
        one = {"digit": main.digit, "probabilities": [round(float(p), 6) for p in main.probabilities]}
        digits = [{"digit": found.digit, "probability": round(found.probability, 6),
                   "box": [round(edge, 4) for edge in found.box], "line": found.line} for found in reading.digits]
        print(json.dumps({"image": name, **(one if len(digits) == 1 else {}), "text": reading.text,
                          "probability": round(reading.probability, 6), "inverted": reading.inverted, "digits": digits}))
    elif isinstance(reading, PictureError):
        print(f"predict.py: {one_line(name)}: {reading}", file=sys.stderr)
    else:
        print(f"{one_line(name)}: {say(reading)}")
    if getattr(reading, "pages", 1) > 1:
        print(f"predict.py: {one_line(name)}: {unread(reading.pages)}", file=sys.stderr)


def main(argv=None):
    """Run the command line argv; return the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        device = check(args)
    except ValueError as error:
        parser.error(str(error))
    try:
        if args.checkpoint is None:
            args.checkpoint, note = checkpoints.choose_checkpoint()
            if note and args.label is None:
                print(f"predict.py: {one_line(note)}", file=sys.stderr)
        if args.draw:
            return draw_and_read(args, device)
        if args.label is not None:
            return label_all(args)
        if args.export:
            network = checkpoints.load_checkpoint(args.checkpoint)
            print(one_line(page.export(args.export, *network, lambda: data.read_mnist(False))))
            return 0
        if args.multi is None:
            return read_all(args, device)
        seed = torch.seed() % 2**32 if args.seed is None else args.seed
        path = args.save or utils.ASSETS / "multi_predict.png"
        wrong = multi_predict(args.multi, seed, None, path, args.show, args.checkpoint, device)
        print(f"{args.multi} test digits, {wrong} read wrongly (--seed {seed}): {one_line(path)}")
    except LeNetError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(utils.run_script(main, "predict.py"))
