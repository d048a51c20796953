"""Fixtures shared by all tests: MNIST, and the two scripts as a shell would run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# before torch: tiny work is fastest so, above all on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Results are compared bit for bit, which holds on a CPU. CUDA_VISIBLE_DEVICES=0 tests a GPU, too.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# A network of your own in Model/ changes what predict.py reads with, and says.
os.environ["LENET5_CHECKPOINT"] = str(
    Path(__file__).resolve().parent.parent / "Model" / "LeNet5.shipped.pth"
)

import torch  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that a bare `pytest` finds the modules too

import utils  # noqa: E402
from training import checkpoints  # noqa: E402
from training.data import load_mnist, split_validation  # noqa: E402
from model import LeNet5  # noqa: E402
from training.recipes import RECIPES  # noqa: E402


@pytest.fixture(scope="session")
def training_set():
    """The 60,000 training images and labels."""
    return load_mnist(train=True)


@pytest.fixture(scope="session")
def run():
    """run("train.py", "--epochs", "1", stdin=b"...") -> the finished process, with text in .stdout
    and .stderr."""
    def run_script(*arguments, stdin=None, cwd=ROOT):
        process = subprocess.run(
            [sys.executable, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            timeout=120,
        )
        process.stdout, process.stderr = process.stdout.decode(), process.stderr.decode()
        return process

    return run_script


@pytest.fixture(scope="session")
def parts(training_set):
    train_set, valid_set = split_validation(*training_set)
    return train_set, valid_set, load_mnist(train=False)


@pytest.fixture(scope="session")
def load_small(parts):
    """What training.data.load_data does, from memory, with 500 validation and 40 test images: each wrong
    one is drawn."""
    def load_data(data_dir, device, limit=None, name="mnist"):
        return [tuple(tensor[:n] for tensor in part) for part, n in zip(parts, (limit, 500, 40))]

    return load_data


@pytest.fixture
def small_data(load_small, monkeypatch):
    """train.main() in this process works on few images, and doesn't load them each time."""
    monkeypatch.setattr("training.runs.load_data", load_small)
    monkeypatch.setattr("training.runs.load_set", lambda *args: load_small(None, None)[2])


@pytest.fixture(scope="session")
def network():
    """The file of the shipped network; Model/LeNet5.pth is whatever a user trained last."""
    return utils.SHIPPED


def default_settings():
    recipe = RECIPES["modern"]
    return dict(
        recipe, recipe="modern", seed=0, limit=None, ingredients=list(recipe["ingredients"])
    )


def without_threads(settings):
    """The settings of a run but for the number of threads, which the machine says and not the
    command."""
    return {key: value for key, value in settings.items() if key != "threads"}


@pytest.fixture(scope="session")
def model(network):
    return checkpoints.load_checkpoint(network)[0]


@pytest.fixture(scope="session")
def seven():
    """A 7, dark on light, 200x200."""
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).line(
        [(60, 50), (140, 50), (90, 160)], fill="black", width=14, joint="curve"
    )
    return image


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A good one."""
    path = tmp_path_factory.mktemp("checkpoint") / "net.pth"
    checkpoints.save_checkpoint(
        path, LeNet5().state_dict(), recipe="classic", seed=0, epoch=1, valid_loss=0.5, settings={}
    )
    return path


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def write_idx(path, array, kind):
    """Write an IDX file; kind: 8 for bytes, 12 for ints of 32 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes())
