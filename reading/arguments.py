"""The arguments of predict.py: what can be asked for, and what with what."""

from itertools import islice
from pathlib import Path

from reading.sources import find_sources

TAKES = {  # the options that each mode takes; all take --checkpoint and --device
    "draw": {"save"}, "export": set(), "multi": {"save", "show", "seed"}, "label": {"images"},
    "table": {"images", "csv"},
    "images": {"images", "invert", "single", "json", "csv", "save", "show", "explain"}}
MOST = 1000  # of --multi's digits: a figure holds no more


def add_to(parser, number):
    """Add predict.py's arguments to an ArgumentParser; number: utils.number."""
    add = parser.add_argument_group("what to do").add_argument
    add("images", nargs="*", default=[], metavar="IMAGE",
        help="read pictures, folders, or - (one on standard input); or one .csv table; after -- "
             "a name may begin with -")
    add("--draw", action="store_true", help="open a window to draw in")
    add("--multi", type=number(int, 1, MOST), nargs="?", const=50, metavar="N",
        help="read N (50) random digits of MNIST's test set")
    add("--export", type=Path, metavar="FILE",
        help="instead, write the network to FILE: .html, a page to draw in, or .onnx")
    add = parser.add_argument_group("how to read").add_argument
    add("--invert", choices=("auto", "yes", "no"), default="auto",
        help="is the ink darker than the paper? (auto)")
    add("--single", action="store_true", help="one digit; of several, the most prominent")
    add("--seed", type=number(int, 0, 2**32 - 1), help="of --multi's random digits")
    add("--checkpoint", type=Path, metavar="FILE",
        help="the weights (the shipped ones; your last run's, if no worse or trained with --mine)")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ... (auto)")
    add = parser.add_argument_group("what to make of it").add_argument
    add("--json", action="store_true", help="print JSON Lines; see below")
    add("--csv", type=Path, metavar="FILE", help="write a table; of a table: ImageId,Label")
    add("--save", type=Path, metavar="FILE", help="write a figure; with --draw, the drawing")
    add("--show", action="store_true", help="open the figure in a window")
    add("--explain", action="store_true", help="show every layer in it (Assets/explain.png)")
    add("--label", choices=tuple("0123456789"), metavar="DIGIT",
        help="keep the pictures as that digit in data/mine, for train.py --mine")


def parse(parser, argv):
    """Return argv parsed. Pictures may stand among options; all after -- are pictures."""
    argv = list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    args, more = parser.parse_known_args(argv[:end])
    if unknown := [word for word in more if word.startswith("-") and word != "-"]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.images = args.images + more + argv[end + 1:]
    return args


def check(args, parser):
    """Return the mode, a key of TAKES; raise ValueError for what makes no sense together."""
    mode = find_mode(args)
    if "images" in TAKES[mode] and not args.images:
        raise ValueError("one of the arguments IMAGE --draw --multi --export is required")
    who = "a .csv table" if mode == "table" else f"argument --{mode}:"
    for name, value in vars(args).items():
        allowed = TAKES[mode] | {mode, "checkpoint", "device"}
        if name not in allowed and value != parser.get_default(name):
            option = "IMAGE" if name == "images" else f"--{name}"
            raise ValueError(f"argument {option}: has no meaning without --multi"
                             if mode == "images" else f"{who} takes no {option}")
    if mode == "table" and (len(args.images) > 1 or args.csv is None):
        raise ValueError("a .csv table is read by itself, and its digits go to another: --csv FILE")
    if args.images.count("-") > 1:
        raise ValueError("argument IMAGE: standard input (-) can be read only once")
    if args.explain and args.images != ["-"]:
        if len(list(islice(find_sources(args.images), 2))) != 1:
            raise ValueError("argument --explain: takes one picture")
    if args.draw and args.save and args.save.suffix.lower() != ".png":
        raise ValueError(f"argument --save: a drawing is saved as .png, got {args.save}")
    if args.export and args.export.suffix not in (".html", ".onnx"):
        raise ValueError(f"argument --export: the name ends in .html or .onnx, got {args.export}")
    return mode


def find_mode(args):
    """Return which of TAKES' modes the arguments ask for."""
    if any(name.lower().endswith(".csv") for name in args.images):
        return "table"
    return next((mode for mode in ("draw", "export", "multi", "label") if getattr(args, mode)),
                "images")
