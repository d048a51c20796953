"""The gradients of a batch on a CPU, in a fraction of the time that autograd alone takes.

    gradients = choose(model, loss_func, x, y, n_chunks=2, im2col=True)      once, before a run
    loss, grads = gradients(model, loss_func, x, y)                          in each step

Two ways to save time, each used only if it computes what the layers compute, which choose() tries:

- Data-parallel threads. torch cuts every single operation into parts, and its threads meet after
  each, a hundred times in a step: if another program uses one core, all wait for it. Here each
  thread is given a chunk of the batch, and they meet once.
- im2col products. C1 with S2, and C3 with S4, the convolution, its tanh and the averages, are one
  matrix product (Chellapilla, Puri and Simard 2006, High Performance Convolutional Neural Networks
  for Document Processing, section 2).
"""

import contextlib
import copy
import functools
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.nn import functional as F

from training.checkpoints import LENET5, name_layers
from utils import compute_logits

SMALLEST_CHUNK = 128  # images: with fewer, Python, which runs one thread at a time, is too slow


def autograd_gradients(model, loss_func, x, y):
    """Return (loss, gradients of the trainable weights), both detached, of a batch."""
    loss = loss_func(compute_logits(model, x), y)
    return loss.detach(), torch.autograd.grad(loss, trainable(model), allow_unused=True)


def trainable(model):
    """Return the weights of model that are trained."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def gradients(model, loss_func, x, y, *, n_chunks=1, im2col=False, bfloat16=False):
    """Return what autograd_gradients() returns, computed by n_chunks threads.

    loss_func has to be a mean over images. bfloat16: round activations and their gradients to
    8 significant bits; weights and loss keep their 24 (Micikevicius et al. 2018, section 3.1).
    """
    def of_chunk(x, y):
        loss = loss_func(fast_logits(model, x, im2col, bfloat16), y)
        if len(y) < n_images:
            loss = loss * (len(y) / n_images)
        return loss.detach(), *torch.autograd.grad(loss, trainable(model))

    n_images = len(y)
    first, *others = zip(x.chunk(n_chunks), y.chunk(n_chunks))
    futures = [chunk_threads(n_chunks - 1).submit(of_chunk, *chunk) for chunk in others]
    parts = [of_chunk(*first), *(future.result() for future in futures)]
    loss, *grads = [functools.reduce(torch.add, part) for part in zip(*parts)]
    return loss, grads


def fast_logits(model, x, im2col, bfloat16):
    """Return model's logits, float32 (N, n_classes), for inputs x."""
    if im2col:
        return im2col_logits(model, x, torch.bfloat16 if bfloat16 else torch.float32).float()
    # no cache: the threads would share it
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        logits = compute_logits(model, x)
    return logits.float()


# --------------------------------------------------------------------------------------------------
# Which way

def choose(model, loss_func, x, y, n_chunks=1, im2col=False, bfloat16=False):
    """Return (gradients function, whether it uses im2col): the fastest way that is asked for and
    gives, on the batch (x, y), the loss and gradients that autograd gives.

    The way asked for comes first, then the model's own layers in chunks, then plain autograd.
    """
    for products in (True, False) if im2col else (False,):
        way = dict(n_chunks=n_chunks, im2col=products)
        if way == dict(n_chunks=1, im2col=False) and not bfloat16:
            break
        if agree(functools.partial(gradients, **way), model, loss_func, x, y):
            return functools.partial(gradients, **way, bfloat16=bfloat16), products
    return autograd_gradients, False


def agree(fast, model, loss_func, x, y, tolerance=1e-3):
    """Say whether the function fast returns autograd_gradients()'s loss and gradients, in float32.

    Models may differ from LeNet-5 in whatever way, so any error means no.
    """
    if fast.keywords["im2col"] and name_layers(model) != LENET5:
        return False
    try:
        with torch.random.fork_rng(devices=[]):  # of a dropout
            results = [function(copy.deepcopy(model).train(), loss_func, x, y)
                       for function in (fast, autograd_gradients)]
    except Exception:
        return False
    pairs = zip(*([loss, *grads] for loss, grads in results))
    return all(b is not None and (a - b).norm() <= tolerance * b.norm() + 1e-6 for a, b in pairs)


# --------------------------------------------------------------------------------------------------
# Threads

def count_chunks(threads, batch_size):
    """Return how many chunks a batch is cut into: one for each thread, but none too small."""
    return max(1, min(threads, batch_size // SMALLEST_CHUNK))


@functools.cache
def chunk_threads(n):
    """Return n threads, in none of which torch cuts its operations."""
    return ThreadPoolExecutor(max(n, 1), "chunk", torch.set_num_threads, (1,))


@contextlib.contextmanager
def torch_threads(n):
    """Within it, torch cuts its operations for n threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Prefetch:
    """A loader whose batches are those of another, made by a thread while others are trained on.

    Meanwhile torch does not cut its operations: gradients() has a thread for each chunk.
    """

    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __getattr__(self, name):  # dataset, batch_size, generator ...
        return getattr(self.loader, name)

    def __iter__(self):
        one = ThreadPoolExecutor(1, "prefetch", torch.set_num_threads, (1,))
        with torch_threads(1), one as thread:
            batches = iter(self.loader)
            following = thread.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = thread.submit(next, batches, None)
                yield batch


# --------------------------------------------------------------------------------------------------
# im2col products

@functools.cache
def layout(channels):
    """Return what lays a map's kernels, of 5x5, and its bias at four places.

    float (25 C + 1, 4 (36 C + 1)), of 0 and 2: (weights, bias), a row, times this is four rows, one
    after the other, each for patches of C x 6 x 6 pixels and a one.
    """
    weights = torch.eye(25 * channels).view(-1, channels, 5, 5)
    laid = torch.stack([F.pad(weights, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)], 1)
    laid = F.pad(laid.flatten(2), (0, 1, 0, 0, 0, 1))
    laid[-1, :, -1] = 1
    return 2 * laid.flatten(1)  # tanh's 2


class ConvTanhPool(torch.autograd.Function):
    """Convolve with kernels of 5x5, take the tanh, average squares of 2x2.

    x: (C, H, W, N), float32 or bfloat16, the type of the products' factors; weight: float32
    (O, C, 5, 5); bias: float32 (O,). Returns (O, (H - 4) / 2, (W - 4) / 2, N) of x's type.

    A patch is what one square sees, 6x6 pixels, and each kernel is laid at its four places in it:
    four rows give the four pixels of all squares, and the averages are sums of rows. A last row of
    ones under the patches carries the biases. The images of a batch lie innermost: wherever a patch
    begins, what is copied or added are runs of N numbers. tanh z = 2 sigmoid(2z) - 1.
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
        # in place: nobody asks for the pixels again
        gradient = torch.ops.aten.sigmoid_backward(gradient, pixels, grad_input=pixels)
        gradient = gradient.view(4 * n_maps, -1).to(patches.dtype)
        of_kernels = torch.mm(gradient, patches.T).float().view(n_maps, -1) @ layout(channels).T
        of_weight, of_bias = of_kernels[:, :-1].reshape(n_maps, channels, 5, 5), of_kernels[:, -1]
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias
        # a patch's row is 2 a + p, its column 2 b + q: the square's own, a and b squares on
        of_patches = torch.mm(kernels[:, :-1].T, gradient).view(channels, 3, 2, 3, 2, h, w, n)
        of_columns = gradient.new_zeros(channels, 3, 2, 2, h, w + 2, n)  # C, a, p, q
        for b in range(3):
            of_columns[..., b:b + w, :].add_(of_patches[:, :, :, b])
        of_x = gradient.new_zeros(channels, 2, 2, h + 2, w + 2, n)  # C, p, q
        for a in range(3):
            of_x[:, :, :, a:a + h].add_(of_columns[:, a])
        of_x = of_x.permute(0, 3, 1, 4, 2, 5).reshape(channels, height, width, n)
        return of_x, of_weight, of_bias


def linear(layer, x):
    """Return layer's sums, (O, N) of x's dtype, for x, (I, N).

    layer is a linear one, or a convolution over its whole input.
    """
    weight = layer.weight.flatten(1).to(x.dtype)
    return torch.addmm(layer.bias.to(x.dtype)[:, None], weight, x)


def im2col_logits(model, x, dtype=torch.float32):
    """Return the logits, (N, n_classes) of the given dtype, of a LeNet5 for inputs x, on a CPU.

    dtype: torch.float32 or torch.bfloat16, that of the products' factors and their gradients.
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
