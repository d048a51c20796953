"""What the README promises is there: its commands parse, its pictures and files exist."""

import re
import shlex
import subprocess
import sys
import types

import pytest

import predict
from training import checkpoints
import train
from training.recipes import make_settings
import utils
from conftest import default_settings, without_threads

README = (utils.ROOT / "README.md").read_text()
# what the benchmark printed holds no commands
WITHOUT_OUTPUT = re.sub(r"```text\n\$.*?```", "", README, flags=re.DOTALL)
COMMANDS = sorted(
    {
        re.split(r"\s{2,}|[|`]", line)[0].strip()
        for line in re.findall(r"python ((?:train|predict)\.py[^\n`]*)", WITHOUT_OUTPUT)
    }
    - {"train.py --help"}
)


def test_there_are_commands():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command):
    script, *arguments = shlex.split(command)
    get_parser = {"train.py": train.get_parser, "predict.py": predict.get_parser}[script]
    args = get_parser().parse_args(arguments)
    if script == "train.py" and not (args.evaluate or args.compare):
        make_settings(**{key: value for key, value in vars(args).items() if key in train.SETTINGS})


@pytest.mark.parametrize(
    "path",
    sorted(
        set(
            re.findall(r"\]\((\w[^):]*)\)", README)
            + re.findall(r"`((?:\w+/)?\w+\.(?:py|npz|csv))`", README)
        )
    ),
)
def test_a_file_exists(path):
    assert (utils.ROOT / path).exists() or (utils.ROOT / "tests" / path).exists()


@pytest.mark.parametrize("marker, script", [("train", "train.py"), ("tests", "-m pytest")])
def test_the_two_commands_set_themselves_up(marker, script):
    (command,) = re.findall(rf"<!-- {marker} -->\n```bash\n(.*)\n```", README)
    assert command.startswith(
        "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt && .venv/bin/python"
    )
    assert script in command and subprocess.run(["bash", "-n", "-c", command]).returncode == 0


def test_the_course_s_logger_is_told_of_every_epoch(monkeypatch):
    told, tensorboard = [], types.ModuleType("torch.utils.tensorboard")  # no requirement of ours
    tensorboard.SummaryWriter = lambda folder: types.SimpleNamespace(
        add_scalar=lambda *scalar: told.append(scalar)
    )
    monkeypatch.setitem(sys.modules, tensorboard.__name__, tensorboard)
    (code,) = re.findall(r"```python\n(.*?)```", (utils.ROOT / "COURSE.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(code, "COURSE.md", "exec"), names)
    losses = [value for name, value, _ in told if name == "valid_loss"]
    assert [epoch for _, _, epoch in told] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert losses == names["valid_losses"] and losses[-1] < losses[0]


def test_nothing_was_left_to_fill_in():
    assert "@@" not in README and "TODO" not in README


def test_the_shipped_network_is_the_default_recipe_s():
    _, metadata = checkpoints.load_checkpoint(utils.SHIPPED)
    assert metadata["recipe"] == "modern" and metadata["seed"] == 0
    assert without_threads(metadata["settings"]) == default_settings()
    assert f"{metadata['test_accuracy']:.2f} %" in README
