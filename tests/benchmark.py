"""Measure speed, as ratios of things timed side by side in one run.

    python tests/benchmark.py train        images per second of an epoch: ours, the lecture's way,
    the floor
    python tests/benchmark.py busy         an epoch, alone and beside a busy process; ours, and in
    torch's own threads
    python tests/benchmark.py run          the whole default run, and --epochs 5, against the
    lecture's 30 epochs
    python tests/benchmark.py predict      predict.py as a process, on a folder, on photographs, on
    100 megapixels

Not a test: nothing fails here. Run it with nothing else running.
"""

import contextlib
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from training import fast_cpu  # noqa: E402
from training import checkpoints  # noqa: E402
from training import data  # noqa: E402
from training import recipes  # noqa: E402
import train  # noqa: E402
import utils  # noqa: E402
from model import LeNet5  # noqa: E402


def lecture_loader(is_train, limit=None):
    """The lecture's DataLoader: every image through PIL, in every epoch."""
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor(),
                                    transforms.Normalize(utils.MEAN, utils.STD)])
    # unpacks it
    dataset = datasets.MNIST(str(utils.DATA), train=is_train, transform=transform, download=True)
    return DataLoader(
        Subset(dataset, range(limit or len(dataset))), batch_size=64, shuffle=is_train
    )


def lecture_epoch(model, optimizer, loader):
    """The lecture's train()."""
    loss_func = nn.CrossEntropyLoss()
    model.train()
    running_loss = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_func(model(x)[0], y)
        running_loss += loss.item() * x.size(0)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def lecture_pass(model, loader):
    """The lecture's validate() or get_accuracy(): one pass without gradients."""
    model.eval()
    right = 0
    for x, y in loader:
        right += (model(x)[1].argmax(1) == y).sum().item()
    return right


def make_lecture(n=6_400):
    model, loader = LeNet5(), lecture_loader(True, n)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def epoch():
        lecture_epoch(model, optimizer, loader)
        return n

    return epoch


def make_ours(batch_size, ingredients, n=12_800):
    """An epoch of train.train() on n of MNIST's images, as `python train.py` runs it; junk comes on
    top and isn't counted."""
    utils.keep_freed_memory()
    train_set = [tensor[:n] for tensor in data.load_mnist(True)]
    settings = dict(epochs=1000, batch_size=batch_size, lr=0.001, seed=0, ingredients=ingredients)
    model, optimizer, loader, extras = recipes.prepare(settings, train_set, "cpu")

    def epoch():
        train.train(loader, model, nn.CrossEntropyLoss(), optimizer, "cpu", **extras)
        return n

    return epoch


def make_epoch(uncut=False):
    """An epoch of the default recipe as history.csv times it, with validation, but on a fifth of
    the images, in as many
    threads as train.py would have. uncut: torch cuts its operations for them, as if batches were
    too small to be cut."""
    utils.keep_freed_memory()
    if uncut:
        fast_cpu.SMALLEST_CHUNK = data.N_TRAINING
    images, labels = data.load_mnist(True)
    modern = recipes.RECIPES["modern"]
    model, optimizer, loader, extras = recipes.prepare(
        dict(modern, epochs=1000, seed=0), (images[:11_000], labels[:11_000]), "cpu"
    )
    valid_loader, loss_func = (
        data.Batches(images[-1000:], labels[-1000:], 1000),
        nn.CrossEntropyLoss(),
    )

    def epoch():
        train.train(loader, model, loss_func, optimizer, "cpu", **extras)
        train.validate(valid_loader, model, loss_func, "cpu")
        return 11_000

    return epoch


def make_floor(batch_size, ingredients, n=12_800):
    """Forward, backward and the optimizer's step on one resident batch, with nothing else."""
    utils.keep_freed_memory()
    settings = dict(epochs=1000, batch_size=batch_size, lr=0.001, seed=0, ingredients=ingredients)
    batch = (
        torch.randint(256, (batch_size, 1, 32, 32), dtype=torch.uint8),
        torch.randint(10, (batch_size,)),
    )
    model, optimizer, ((x, y),), extras = recipes.prepare(settings, batch, "cpu")
    loss_func = nn.CrossEntropyLoss()

    def steps():
        for _ in range(n // batch_size):
            _, grads = extras["gradients"](model, loss_func, x, y)
            for weight, grad in zip(model.parameters(), grads):
                weight.grad = grad
            optimizer.step()
        return n // batch_size * batch_size

    return steps


def make_reader(folder, threads):
    """Read all pictures in folder."""
    import predict

    torch.set_num_threads(threads)
    model, paths = checkpoints.load_checkpoint()[0], sorted(Path(folder).iterdir())

    def read():
        predict.predict_images(paths, model)
        return len(paths)

    return read


def start(make, *arguments):
    """Make a contender in a process of its own and warm it up."""
    global contender
    contender = make(*arguments)
    contender()


def speed():
    started = time.perf_counter()
    n = contender()
    return n / (time.perf_counter() - started)


@contextlib.contextmanager
def neighbour():
    """Within it, another process keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def interleave(contenders, repeats, besides=(contextlib.nullcontext,)):
    """Return {name: images per second of each repeat}; every repeat times every contender once, in
    turn.

    Each of contenders, {name: (maker, arguments)}, lives in a process of its own: what one does to
    threads and memory is
    not to help or harm the others. With neighbour among besides, it is timed beside one too, as
    "name, busy".
    """
    spawn = multiprocessing.get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, spawn, start, how) for name, how in contenders.items()}
    speeds = {
        name + ", busy" * (beside is neighbour): [] for beside in besides for name in contenders
    }
    for pool in pools.values():
        pool.submit(speed).result()
    for _ in range(repeats):
        for beside in besides:
            for name, pool in pools.items():
                with beside():
                    speeds[name + ", busy" * (beside is neighbour)].append(
                        pool.submit(speed).result()
                    )
    for pool in pools.values():
        pool.shutdown()
    return speeds


def show(speeds):
    for name, values in speeds.items():
        print(
            f"{name:45s} {statistics.median(values):10,.0f} /s  ({min(values):,.0f} .. "
            f"{max(values):,.0f})"
        )


def ratio(speeds, one, other, bar):
    values = [a / b for a, b in zip(speeds[one], speeds[other])]
    print(
        f"{one} / {other}: {statistics.median(values):.2f}  ({min(values):.2f} .. "
        f"{max(values):.2f}; bar {bar})"
    )


def bench_train(repeats=7):
    start_up = [
        process_seconds(
            "-c",
            "import torch, train, training.data, utils; training.data.load_data(utils.DATA, "
            "torch.device('cpu'))",
        )
        for _ in range(3)
    ]
    print(f"start-up, imports and 70,000 images: {statistics.median(start_up):.1f} s (bar 5)")
    modern = recipes.RECIPES["modern"]
    size, everything = modern["batch_size"], modern["ingredients"]
    plain = [
        name
        for name in everything
        if name
        not in ("affine", "random-rotation", "elastic", "stroke-thickness", "styles", "negatives")
    ]
    speeds = interleave(
        {
            "ours, batch 64": (make_ours, 64, ()),
            "floor, batch 64": (make_floor, 64, ()),
            "the lecture's way": (make_lecture,),
            "ours, default": (make_ours, size, everything),
            "ours, default, no augmentation": (make_ours, size, plain),
            "floor, default": (make_floor, size, plain),
            "floor, default, layer by layer": (
                make_floor,
                size,
                [name for name in plain if name != "im2col"],
            ),
            "floor, default batch, plain Adam, float32": (make_floor, size, ()),
        },
        repeats,
    )
    show(speeds)
    ratio(speeds, "ours, batch 64", "the lecture's way", "2.5")
    ratio(speeds, "ours, batch 64", "floor, batch 64", "0.93")
    ratio(speeds, "ours, default", "the lecture's way", "5.0")
    ratio(speeds, "ours, default, no augmentation", "floor, default", "0.93")
    ratio(speeds, "floor, default", "floor, default, layer by layer", "none: what im2col is worth")


def bench_busy(repeats=7):
    ours, torchs = "ours, default", "torch's own threads"
    speeds = interleave(
        {ours: (make_epoch,), torchs: (make_epoch, True)},
        repeats,
        (contextlib.nullcontext, neighbour),
    )
    show(speeds)
    ratio(speeds, ours, f"{ours}, busy", "2, at most")
    ratio(speeds, torchs, f"{torchs}, busy", "none: what it would be")
    ratio(speeds, ours, torchs, "0.97")


def bench_run():
    train_loader, valid_loader = lecture_loader(True), lecture_loader(False)
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def lecture():
        started = time.perf_counter()
        lecture_epoch(model, optimizer, train_loader)
        lecture_pass(model, valid_loader)  # validate()
        lecture_pass(model, train_loader)  # get_accuracy(), twice
        lecture_pass(model, valid_loader)
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        def ours(*arguments):
            started = time.perf_counter()
            process = subprocess.run(
                [
                    sys.executable,
                    ROOT / "train.py",
                    "--checkpoint",
                    f"{folder}/net.pth",
                    "--assets-dir",
                    folder,
                    *arguments,
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            return time.perf_counter() - started, re.search(
                r"test accuracy (\S+ %)", process.stdout
            )[1]

        seconds = [lecture()]
        default, _ = ours()
        seconds.append(lecture())
        short, _ = ours("--epochs", "5")
        seconds.append(lecture())
        shortest, accuracy = ours("--epochs", "3")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    epochs = 30 * statistics.median(seconds)
    print(
        f"the lecture's way: {statistics.median(seconds):.1f} s an epoch (three: "
        f"{min(seconds):.1f} .. {max(seconds):.1f}), "
        f"30 epochs {epochs:.0f} s"
    )
    print(
        f"python train.py: {default:.0f} s, {default / epochs:.2f} of the lecture's 30 epochs "
        f"(bar 0.30); "
        f"peak memory {peak:.0f} MB (bar 1200)"
    )
    print(
        f"python train.py --epochs 5: {short:.0f} s, {short / epochs:.2f} of the lecture's 30 "
        f"epochs (bar 0.20)"
    )
    print(
        f"python train.py --epochs 3: {shortest:.1f} s from the shell to the saved file, "
        f"{accuracy} of the test set; "
        f"{30 * shortest / epochs:.2f} of one epoch of the lecture's way"
    )


def process_seconds(*command):
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=ROOT
    )
    return time.perf_counter() - started


def bench_predict(repeats=9):
    import pictures

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        digits, _ = pictures.digits(1000)
        small, large, page = folder / "small", folder / "large", folder / "page"
        small.mkdir(), large.mkdir(), page.mkdir()
        rng = np.random.default_rng(0)
        for i, digit in enumerate(digits):
            pictures.as_mnist(digit, rng).save(small / f"{i:04d}.png")
        for i, digit in enumerate(digits[:100]):
            photo = pictures.photograph(digit, rng).resize((1000, 1000))
            photo.save(large / f"{i:04d}.jpg", quality=90)
        lines = zip(*pictures.make_numbers(pictures.pages.small_line, 40))
        for i, photo in enumerate([photo for photo, text in lines if len(text) == 10][:4]):
            photo.resize((photo.width * 5 // 2, photo.height * 5 // 2)).save(
                page / f"{i}.jpg", quality=90
            )
        one = small / "0000.png"
        pairs = [
            (process_seconds("predict.py", one), process_seconds("-c", "import torch"))
            for _ in range(repeats)
        ]
        ratios = [a / b for a, b in pairs]
        print(
            f"python predict.py one.png / python -c 'import torch': "
            f"{statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} .. {max(ratios):.2f}; bar 1.15)"
        )
        ten = "photographs of 12 megapixels, ten digits each"
        speeds = interleave({"28x28 files": (make_reader, small, torch.get_num_threads()),
                             "photographs of 1 megapixel, on one core": (make_reader, large, 1),
                             ten: (make_reader, page, 1)}, repeats)
        show(speeds)
        print(
            f"bars: 1,500, 60 and 2; one of 12 megapixels takes "
            f"{1 / statistics.median(speeds[ten]):.2f} s (bar 0.5)"
        )
        rng_page = (200 + 20 * rng.standard_normal((1000, 1000, 3))).astype(np.uint8)
        huge = Image.fromarray(rng_page).resize((10_000, 10_000))
        huge.paste((0, 0, 0), (4000, 2000, 5000, 8000))
        huge.save(folder / "huge.png", compress_level=1)
        code = (
            "import predict; predict.main(['%s']);"
            "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        )
        output = subprocess.run(
            [sys.executable, "-c", code % (folder / "huge.png")],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        print(f"100 megapixels: {int(output.stdout.split()[-1]) / 1024:.0f} MB (bar 1000)")


if __name__ == "__main__":
    benchmarks = dict(train=bench_train, busy=bench_busy, run=bench_run, predict=bench_predict)
    if len(sys.argv) != 2 or sys.argv[1] not in benchmarks:
        sys.exit(__doc__)
    cpu = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    # 0 if nothing else is running
    print(f"{time.strftime('%Y-%m-%d')}, {cpu}, load {os.getloadavg()[0]:.1f}")
    benchmarks[sys.argv[1]]()
