"""Fixtures shared by all tests: MNIST, and the two scripts as a shell would run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny work is fastest so, above all on a busy machine

import torch  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that a bare `pytest` finds the modules too

from mnist import load_mnist, split_validation  # noqa: E402


@pytest.fixture(scope="session")
def training_set():
    """The 60,000 training images and labels."""
    return load_mnist(train=True)


@pytest.fixture(scope="session")
def run():
    """run("train.py", "--epochs", "1", stdin=b"...") -> the finished process, with text in .stdout and .stderr."""
    def run_script(*arguments, stdin=None, cwd=ROOT):
        process = subprocess.run([sys.executable, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd,
                                 timeout=120)
        process.stdout, process.stderr = process.stdout.decode(), process.stderr.decode()
        return process

    return run_script


@pytest.fixture(scope="session")
def parts(training_set):
    train_set, valid_set = split_validation(*training_set)
    return train_set, valid_set, load_mnist(train=False)


@pytest.fixture(scope="session")
def load_small(parts):
    """What train.load_data does, from memory, with 500 validation and 40 test images: each wrong one is drawn."""
    def load_data(data_dir, device, limit=None):
        return [tuple(tensor[:n] for tensor in part) for part, n in zip(parts, (limit, 500, 40))]

    return load_data


@pytest.fixture
def small_data(load_small, monkeypatch):
    """train.main() in this process works on few images, and doesn't load them each time."""
    monkeypatch.setattr("train.load_data", load_small)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
