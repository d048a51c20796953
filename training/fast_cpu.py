"""The machine's cores: how many of them this process may use, and how a batch is spread over them.

torch's own way is to cut every single operation into parts and to let its threads meet after each: more than a hundred
meetings in a training step, at which all wait for the one whose core another program is using. Beside one busy program a
step takes three times as long, on some machines twenty. Here each thread is given a whole piece of the batch, and they meet
when all pieces are done.
"""

import contextlib
import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch.nn import functional as F

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


# ---------------------------------------------------------------------------------------------------------------------
# LeNet-5's sums as a few large matrix products, on a CPU: the same logits, in half of the time that its layers take.
#
# C1 with S2, and C3 with S4, the convolution, its tanh and the averages over squares of 2x2, are computed at one go:
#
# - A convolution is the product of its kernels, a row each, and of its input's patches, a column each. Here a patch is what one
#   square sees, 6x6 pixels, and each kernel of 5x5 is laid at its four places in it: four rows give the four pixels of all squares,
#   and the averages are sums of rows. A last row of ones under the patches carries the biases.
# - The images of a batch lie innermost, (C, H, W, N): wherever a patch begins, what is copied or added are runs of N numbers.
# - tanh z = 2 sigmoid(2z) - 1, and torch's sigmoid takes a tenth of the time of its tanh.
# - There are few calls: threads that compute side by side wait for each other at each, for Python's lock.
#
# train() computes in this way; everything else asks the layers themselves. (Chellapilla, Puri and Simard 2006, High Performance
# Convolutional Neural Networks for Document Processing, section 2: convolutions as products.)


@functools.cache
def layout(channels):
    """Return what lays a map's kernels, of 5x5, and its bias at four places: float (25 C + 1, 4 (36 C + 1)), of 0 and 2.

    (weights, bias), a row, times this is four rows, one after the other, each for patches of C x 6 x 6 pixels and a one.
    """
    weights = torch.eye(25 * channels).view(-1, channels, 5, 5)
    laid = torch.stack([F.pad(weights, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)], 1)
    laid = F.pad(laid.flatten(2), (0, 1, 0, 0, 0, 1))
    laid[-1, :, -1] = 1
    return 2 * laid.flatten(1)  # tanh's 2


class ConvTanhPool(torch.autograd.Function):
    """Convolve with kernels of 5x5, take the tanh, average squares of 2x2.

    x: (C, H, W, N), float32 or bfloat16, the type of the products' factors; weight: float32 (O, C, 5, 5); bias: float32 (O,).
    Returns (O, (H - 4) / 2, (W - 4) / 2, N) of x's type.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        (channels, height, width, n), n_maps = x.shape, len(weight)
        h, w = height // 2 - 2, width // 2 - 2
        patches = x.new_empty(36 * channels + 1, h * w * n)
        map_, row, column, _ = x.stride()
        shape, strides = (channels, 6, 6, h, w, n), (map_, row, column, 2 * row, 2 * column, 1)
        patches[:-1].view(shape).copy_(x.as_strided(shape, strides))
        patches[-1] = 1
        kernels = torch.cat([weight.flatten(1), bias[:, None]], 1) @ layout(channels)
        kernels = kernels.view(4 * n_maps, -1).to(x.dtype)
        pixels = torch.mm(kernels, patches).float().sigmoid_().view(n_maps, 4, -1)
        ctx.save_for_backward(patches, kernels, pixels)
        ctx.shape = x.shape
        return pixels.sum(1).div_(2).sub_(1).to(x.dtype).view(n_maps, h, w, n)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        patches, kernels, pixels = ctx.saved_tensors
        (channels, height, width, n), (n_maps, h, w, _) = ctx.shape, gradient.shape
        gradient = gradient.float().div(2).reshape(n_maps, 1, -1).expand_as(pixels)
        gradient = torch.ops.aten.sigmoid_backward(gradient, pixels, grad_input=pixels)  # in place: nobody asks for them again
        gradient = gradient.view(4 * n_maps, -1).to(patches.dtype)
        of_kernels = torch.mm(gradient, patches.T).float().view(n_maps, -1) @ layout(channels).T
        of_weight, of_bias = of_kernels[:, :-1].reshape(n_maps, channels, 5, 5), of_kernels[:, -1]
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias
        # a patch's row is 2 a + p, its column 2 b + q; of the input, they are those of the square, and a and b squares on
        of_patches = torch.mm(kernels[:, :-1].T, gradient).view(channels, 3, 2, 3, 2, h, w, n)
        of_columns = gradient.new_zeros(channels, 3, 2, 2, h, w + 2, n)  # C, a, p, q
        for b in range(3):
            of_columns[..., b:b + w, :].add_(of_patches[:, :, :, b])
        of_x = gradient.new_zeros(channels, 2, 2, h + 2, w + 2, n)  # C, p, q
        for a in range(3):
            of_x[:, :, :, a:a + h].add_(of_columns[:, a])
        return of_x.permute(0, 3, 1, 4, 2, 5).reshape(channels, height, width, n), of_weight, of_bias


def linear(layer, x):
    """Return layer's sums, (O, N) of x's dtype, for x, (I, N): of a linear layer, or of a convolution over its whole input."""
    return torch.addmm(layer.bias.to(x.dtype)[:, None], layer.weight.flatten(1).to(x.dtype), x)


def compute_logits(model, x, dtype=torch.float32):
    """Return the logits, (N, 10) of the given dtype, of a LeNet5 for x, float (N, 1, 32, 32), standardised, on a CPU.

    dtype: torch.float32 or torch.bfloat16, that of the products' factors and of their gradients.
    """
    c1, _, _, c3, _, _, c5, _ = model.feature_extractor
    f6, _, output = model.classifier
    x = x.to(dtype).permute(1, 2, 3, 0).contiguous()
    for layer in c1, c3:
        x = ConvTanhPool.apply(x, layer.weight, layer.bias)
    x = x.flatten(0, 2)
    for layer in c5, f6:
        x = linear(layer, x).tanh()
    return linear(output, x).T
