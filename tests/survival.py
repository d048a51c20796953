"""Kill training at random moments, resume it, and compare with a run that nobody disturbed.

    python tests/survival.py [KILLS]        20 by default, a few minutes

A run is killed (SIGKILL) after a random time, resumed, killed again, and so on; in the end weights
and history have to
be those of the undisturbed run, bit for bit, and every file whole at every moment.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from training import checkpoints  # noqa: E402

ARGUMENTS = ["--epochs", "5", "--limit", "2000", "--batch-size", "50", "--seed", "3"]


def command(folder, *arguments):
    return [
        sys.executable,
        str(ROOT / "train.py"),
        *arguments,
        "--checkpoint",
        str(folder / "net.pth"),
        "--assets-dir",
        str(folder),
    ]


def outcome(folder):
    """Return (weights, history without the seconds) of a finished run."""
    model, _ = checkpoints.load_checkpoint(folder / "net.pth")
    with open(folder / "net.history.csv") as file:
        history = [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]
    return model.state_dict(), history


def same(one, other):
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def kill_and_resume(folder, kills, rng, longest):
    """Train in folder, killing the process `kills` times after up to `longest` seconds; return the
    kills that hit."""
    hits, last = 0, folder / "net.last.pth"
    while True:
        resume = ["--resume"] if last.exists() else ARGUMENTS
        process = subprocess.Popen(
            command(folder, *resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if hits < kills:
            time.sleep(rng.uniform(0.2, longest))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                hits += 1
        _, errors = process.communicate()
        if process.returncode == 0 and hits < kills:  # it was too quick for us: start anew
            last.unlink()
        elif process.returncode == 0:
            return hits
        elif process.returncode != -signal.SIGKILL:
            raise AssertionError(errors.decode())
        for path in folder.glob("*.pth"):  # whatever is there is whole
            checkpoints.read_file(path)


def main(kills):
    os.environ["OMP_NUM_THREADS"] = "1"
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        started = time.perf_counter()
        subprocess.run(command(Path(one), *ARGUMENTS), check=True, stdout=subprocess.DEVNULL)
        longest = 1.2 * (time.perf_counter() - started)
        hits = kill_and_resume(Path(other), kills, rng, longest)
        equal = same(outcome(Path(one)), outcome(Path(other)))
    print(
        f"killed {hits} times; weights and history equal to the undisturbed run's: "
        f"{'yes' if equal else 'NO'}"
    )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
