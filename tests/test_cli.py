"""Whatever is on the command line ends in sensible work or in one line and status 2 (property-
based)."""

import contextlib
import io
import math
from argparse import ArgumentParser

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from training import data
import predict
import train
from reading import arguments as read_arguments
from training import runs
from training.recipes import RECIPES

JUNK = st.one_of(
    st.integers(-3, 10**20).map(str),
    st.floats().map(str),
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            "auto",
            "cpu",
            "cuda",
            "meta",
            "modern",
            "classic",
            "affine",
            "soap",
            "yes",
            "-",
            "--",
            "model.py",
            "nothing/at/all",
            "\x00",
            "1e400",
            "0x10",
            "model.py/x.png",
        ]
    ),
)
# most are good
COUNTS = [1, 2, 10, 64, 1000, data.N_TRAINING, 2**32 - 1] * 2 + [
    -1,
    0,
    1001,
    data.N_TRAINING + 1,
    2**32,
]
BY_TYPE = {
    "int": st.sampled_from(COUNTS),
    "float": st.sampled_from([1e-3, 1, 1e9, -1, 0, math.inf, -math.inf, math.nan]),
    None: st.sampled_from(["auto", "cpu", "toaster"]),
}


def command_lines(parser):
    """A strategy of command lines: most are flags with values of their type, in or out of range;
    some are anything."""
    actions = [
        action for action in parser._actions if action.option_strings and action.dest != "help"
    ]
    pieces = []
    for action in actions:
        values = (
            st.sampled_from(sorted(action.choices))
            if action.choices
            else BY_TYPE.get(getattr(action.type, "__name__", None), JUNK)
        )
        flag = st.just(action.option_strings[0])
        pieces.append(st.tuples(flag) if action.nargs == 0 else st.tuples(flag, values.map(str)))
    pictures = st.tuples(st.sampled_from(["x.png", "-", "x.csv"]))
    sensible = st.lists(st.one_of(*pieces, pictures), max_size=3).map(
        lambda chosen: [word for piece in chosen for word in piece]
    )
    anything = st.lists(
        st.one_of(st.sampled_from([action.option_strings[0] for action in actions]), JUNK),
        max_size=7,
    )
    return st.sampled_from([sensible] * 4 + [anything]).flatmap(lambda chosen: chosen)


def outcome(module, arguments, work):
    """Check how module.main(arguments) ends; return (name, arguments, parsed command line) of what
    it called of work.

    All three are None if it refused.
    """
    err, called = io.StringIO(), []
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(err),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        for name in work:
            patch.setattr(
                runs if module is train else module,
                name,
                lambda *args, name=name: called.append((name, args)),
            )
        # no folders with funny names
        for check in ("utils.check_folder", "utils.check_file", "training.files.check_name",
                      "training.files.is_other"):
            patch.setattr(check, lambda *args, **kwargs: None)
        patch.setattr("training.files.lock_folder", contextlib.nullcontext)
        patch.setattr("training.report.compare", lambda *args: called.append(("compare", args)))
        patch.setattr("training.runs.load_state", lambda checkpoint: None)
        try:
            status = module.main(arguments)
        except SystemExit as exit:
            status = exit.code
    assert (len(called), status, err.getvalue().count("\n")) in ((1, None, 0), (1, 0, 0), (0, 2, 1))
    if not called:
        return None, None, None
    parse = ArgumentParser.parse_args if module is train else read_arguments.parse
    return *called[0], parse(module.get_parser(), arguments)


def of(strategy):
    """Some hundred examples, the same ones each time: the suite's verdict must not depend on
    luck."""
    return lambda test: settings(
        max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )(given(arguments=strategy)(test))


@of(command_lines(train.get_parser()))
def test_train(arguments):
    name, called, asked = outcome(train, arguments, ["train_seeds", "evaluate"])
    if name == "train_seeds":
        _, args, run, device, *_ = called
        assert (
            run["epochs"] >= 1
            and 0 < run["lr"] < math.inf
            and 0 <= run["seed"] < 2**32
            and args.seeds >= 1
        )
        assert run["limit"] is None or run["limit"] >= 1
        assert 1 <= run["batch_size"] <= min(run["limit"] or data.N_TRAINING, data.N_TRAINING)
        recipe, without = RECIPES[run["recipe"]]["ingredients"], getattr(asked, "without", [])
        without = [*without, *["bfloat16", "im2col"] * ("deterministic" in asked)]
        assert run["ingredients"] == [name for name in recipe if name not in without]
        assert not asked.resume or (asked.seeds == 1 and not asked.dry_run)
        assert asked.device in ("auto", str(device))
    elif name == "evaluate":
        assert (
            not asked.resume
            and not asked.dry_run
            and asked.seeds == 1
            and not set(train.SETTINGS) & set(vars(asked))
        )
        assert asked.device in ("auto", str(called[1]))


@of(command_lines(predict.get_parser()))
def test_predict(arguments):
    work = ["read_all", "read_table", "multi_predict", "draw_and_read", "label_all", "export"]
    name, called, asked = outcome(predict, arguments, work)
    if name == "read_all":
        assert (
            asked.images
            and asked.images.count("-") <= 1
            and asked.multi is None
            and asked.seed is None
        )
    elif name == "multi_predict":
        n, seed, *_ = called
        assert (
            n == asked.multi
            and 1 <= n <= 1000
            and 0 <= seed < 2**32
            and seed == (seed if asked.seed is None else asked.seed)
        )
        assert not asked.images and not asked.json and not asked.single and asked.invert == "auto"
    elif name == "read_table":
        assert len(asked.images) == 1 and asked.csv and not asked.json and not asked.save
    elif name == "draw_and_read":
        assert (
            asked.draw
            and not asked.images
            and asked.multi is None
            and called[0].save.suffix.lower() == ".png"
        )
    elif name == "label_all":
        assert (
            asked.images
            and asked.label in tuple("0123456789")
            and not asked.draw
            and asked.multi is None
            and not asked.json
        )
    if name is not None:
        assert asked.device in ("auto", str(called[-1]))


OPTIONS = [["--json"], ["--csv", "t.csv"], ["--invert", "yes"], ["--device", "cpu"], ["--show"]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(OPTIONS), unique_by=tuple),
    st.lists(st.sampled_from(["a.png", "-", "b c.jpg", "folder"])),
    st.lists(st.sampled_from(["-a.png", "--json", "a.png"])),
    st.randoms(use_true_random=False),
)
def test_pictures_may_stand_among_options_and_anything_after_two_dashes_is_one(
    options, pictures, dashed, random
):
    order = ["option"] * len(options) + ["picture"] * len(pictures)
    random.shuffle(order)
    left = {"option": iter(options), "picture": iter([[picture] for picture in pictures])}
    words = [word for kind in order for word in next(left[kind])]
    together = read_arguments.parse(predict.get_parser(), [*words, "--", *dashed])
    apart = predict.get_parser().parse_args([word for option in options for word in option])
    assert vars(together) == vars(apart) | {"images": pictures + dashed}
