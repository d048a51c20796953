"""The machine's cores: how many of them this process may use, and how a batch is spread over them.

torch's own way is to cut every single operation into parts and to let its threads meet after each: more than a hundred
meetings in a training step, at which all wait for the one whose core another program is using. Beside one busy program a
step takes three times as long, on some machines twenty. Here each thread is given a whole piece of the batch, and they meet
when all pieces are done.
"""

import contextlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

SMALLEST_PIECE = 128  # images: with fewer, Python's share of the work, which only one thread at a time can do, is too large


def count():
    """Return how many threads are to compute: torch's number, which is that of the cores or OMP_NUM_THREADS, or fewer if
    this process may not use so many cores."""
    limits = [torch.get_num_threads(), quota()]
    if hasattr(os, "sched_getaffinity"):  # Linux
        limits.append(len(os.sched_getaffinity(0)))
    return max(1, int(min(limits)))


def quota(root=Path("/")):
    """Return how many cores' time the control group of this process may use, infinity if all; root is for tests.

    A container with --cpus=2 sees all of the machine's cores, but is stopped once its threads have used up, together, two
    cores' time. Version 2 of the control groups says "200000 100000" in cpu.max, microseconds in each period; version 1
    has a file for each of the two. The groups above limit too.
    """
    found = [float("inf")]
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                found.append(_quota_of(folder, ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if controllers else ["cpu.max"]))
                if folder == top:
                    break
    return min(found)


def _quota_of(folder, names):
    try:
        used, period = " ".join((folder / name).read_text() for name in names).split()
        return float(used) / float(period) if float(used) > 0 else float("inf")  # version 1 says -1 for no limit
    except (OSError, ValueError):  # no such file, or version 2's "max 100000"
        return float("inf")


@contextlib.contextmanager
def torch_threads(n):
    """Within it, torch cuts its operations for n threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pieces(data_loader, device):
    """Return into how many pieces to cut the batches of data_loader: one for each of torch's threads, or fewer if the pieces
    would be too small; 1, and so not at all, if the work isn't the CPU's."""
    if torch.device(device).type != "cpu":
        return 1
    size = getattr(data_loader, "batch_size", None) or 0  # of a list, say, nobody knows
    return max(1, min(torch.get_num_threads(), size // SMALLEST_PIECE))


@contextlib.contextmanager
def workers(n):
    """Yield n - 1 threads, an executor, who help the calling one; within it torch's operations are not cut, in none of them.

    Yields None if n is 1: then nobody helps, and torch cuts its operations as ever.
    """
    if n == 1:
        yield None
        return
    with torch_threads(1), ThreadPoolExecutor(n - 1, "worker", torch.set_num_threads, (1,)) as executor:
        yield executor


def start(executor, function, *arguments):
    """Start function(*arguments) on one of the executor's threads and return its Future; without one, do it here and now."""
    if executor is not None:
        return executor.submit(function, *arguments)
    future = Future()
    future.set_result(function(*arguments))
    return future


def spread(executor, function, *iterables):
    """Return a Future of function(*items) for each items in zip(*iterables): the first is computed here, the others by the
    executor's threads meanwhile. function must not draw random numbers that its calls share."""
    first, *others = zip(*iterables)
    futures = [start(executor, function, *items) for items in others]
    return [start(None, function, *first), *futures]
