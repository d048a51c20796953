"""Whatever is on the command line ends in work or in one line and status 2 (property-based)."""

import contextlib
import io

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import predict
import train

VALUES = st.one_of(st.integers(-3, 10**20).map(str), st.floats().map(str), st.text(max_size=8),
                   st.sampled_from(["", "auto", "cpu", "cuda", "meta", "modern", "classic", "affine", "turns", "yes", "-", "--",
                                    "model.py", "nothing/at/all", "\x00", "1e400", "0x10", "model.py/x.png"]))


def command_lines(parser):
    """A strategy of lists of the parser's flags and of values that may or may not belong to them."""
    flags = [flag for action in parser._actions for flag in action.option_strings if flag not in ("-h", "--help")]
    return st.lists(st.one_of(st.sampled_from(flags), VALUES), max_size=7)


def outcome(module, arguments, work):
    """Return (exit status, stderr) of module.main(arguments) with work, its name, taken out."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        for name in work:
            patch.setattr(module, name, lambda *args, **kwargs: None)
        patch.setattr("utils.check_folder", lambda *args: None)  # no folders with funny names
        patch.setattr("utils.lock_folder", contextlib.nullcontext)
        try:
            status = module.main(arguments)
        except SystemExit as exit:
            status = exit.code
    return status, err.getvalue()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=command_lines(train.get_parser()))
def test_train(arguments):
    status, err = outcome(train, arguments, ["train_seeds", "evaluate", "load_last", "check_resume"])
    assert status in (0, None, 2) and err.count("\n") == (1 if status else 0)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=command_lines(predict.get_parser()))
def test_predict(arguments):
    status, err = outcome(predict, arguments, ["read_all", "multi_predict", "draw_and_read"])
    assert status in (0, None, 2) and err.count("\n") == (1 if status else 0)
