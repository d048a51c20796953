"""Gradients in less time are the gradients that autograd gives, in however many threads."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import train
import utils
from model import LeNet5
from training import checkpoints, fast_cpu, files, recipes, report, runs
from training.data import Batches


def distances(ours, theirs):
    return [((a.double() - b).norm() / (b.norm() + 1e-12)).item() for a, b in zip(ours, theirs)]


@pytest.mark.parametrize("n", [1, 2, 7, 300])
@pytest.mark.parametrize("way", [dict(im2col=True), dict(n_chunks=3),
                                 dict(n_chunks=4, im2col=True)])
def test_gradients_are_autograds(n, way):
    """The last batch is as small as it happens to be; no chunk of it may be empty."""
    model, exact = LeNet5(), LeNet5().double()
    exact.load_state_dict(model.state_dict())
    x, y = torch.randn(n, 1, 32, 32), torch.randint(10, (n,))
    loss, grads = fast_cpu.autograd_gradients(exact, F.cross_entropy, x.double(), y)
    for bfloat16, tolerance in (False, 5e-5), (True, 0.1):
        ours = fast_cpu.gradients(model, F.cross_entropy, x, y, bfloat16=bfloat16, **way)
        assert ours[0].dtype == torch.float32 and all(g.dtype == torch.float32 for g in ours[1])
        assert max(distances([ours[0], *ours[1]], [loss, *grads])) < tolerance


def test_a_stage_is_convolution_tanh_and_pooling_for_any_size_and_number_of_maps():
    for channels, height, width, n_maps in (1, 6, 6, 1), (2, 8, 14, 5), (3, 16, 10, 2):
        x = torch.randn(4, channels, height, width, dtype=torch.float64)
        weight, bias = torch.randn(n_maps, channels, 5, 5), torch.randn(n_maps)
        leaves = [[tensor.clone().requires_grad_() for tensor in (x.float(), weight, bias)],
                  [tensor.double().requires_grad_() for tensor in (x, weight, bias)]]
        inputs = leaves[0][0].permute(1, 2, 3, 0).contiguous()
        ours = fast_cpu.ConvTanhPool.apply(inputs, *leaves[0][1:]).permute(3, 0, 1, 2)
        theirs = F.avg_pool2d(torch.tanh(F.conv2d(*leaves[1])), 2)
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-4)
        towards = torch.randn(theirs.shape)
        gradients = [torch.autograd.grad((out * towards).sum(), of)
                     for out, of in zip((ours, theirs), leaves)]
        for a, b in zip(*gradients):
            torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name, device, expected", [
    ("modern", "cpu", True), ("classic", "cpu", False), ("modern", "meta", False)])
def test_where_the_products_are_taken(name, device, expected):
    """On the CPU, if the recipe has them; a GPU has better ways."""
    few = torch.zeros(20, 1, 32, 32, dtype=torch.uint8), torch.arange(20) % 10
    settings = dict(recipes.RECIPES[name], seed=0, epochs=1)
    if device == "meta":
        settings["ingredients"] = ("im2col",)
    gradients = recipes.prepare(settings, few, device)[3]["gradients"]
    assert getattr(gradients, "keywords", {}).get("im2col", False) is expected


@pytest.mark.parametrize("threads, batch_size, expected", [
    (2, 512, 2), (1, 512, 1), (4, 512, 4), (64, 512, 4), (2, 256, 2), (2, 255, 1), (2, 64, 1)])
def test_chunks_are_not_small(threads, batch_size, expected):
    assert fast_cpu.count_chunks(threads, batch_size) == expected


def test_what_is_said_of_threads_is_so():
    """Of 16 threads, 4 compute the gradients of a batch of 512."""
    data = [(None, torch.zeros(10))] * 3
    for threads, size, said in (16, 512, "16 threads (gradients in 4):"), (2, 512, "2 threads:"), \
            (16, 64, "16 threads:"), (1, 64, "1 thread:"):
        line = report.headline(torch.device("cpu"), dict(threads=threads, batch_size=size), data)
        assert f", {said} " in line


def one_epoch(images, labels, threads, without=()):
    """Return (loss, weights) of an epoch of the default recipe."""
    settings = dict(recipes.RECIPES["modern"], epochs=1, batch_size=390, seed=3)
    settings["ingredients"] = [name for name in settings["ingredients"] if name not in without]
    with fast_cpu.torch_threads(threads):
        model, optimizer, loader, how = recipes.prepare(settings, (images, labels), "cpu")
        loss = train.train(loader, model, nn.CrossEntropyLoss(), optimizer, "cpu", **how)[2]
        assert torch.get_num_threads() == threads
    return loss, model.state_dict()


@pytest.mark.slow
def test_the_same_threads_give_the_same_weights_and_others_nearly_the_same_loss(training_set):
    images, labels = (part[:1500] for part in training_set)
    ours, same, one = (one_epoch(images, labels, threads) for threads in (3, 3, 1))
    assert ours[0] == same[0] == pytest.approx(one[0], rel=0.02)
    assert all(torch.equal(weight, same[1][name]) for name, weight in ours[1].items())
    assert not any(torch.equal(weight, one[1][name]) for name, weight in ours[1].items())


@pytest.mark.slow
def test_an_epoch_by_products_is_an_epoch(training_set):
    images, labels = (part[:1000] for part in training_set)
    ours, theirs = (one_epoch(images, labels, 1, without=("bfloat16", *more))
                    for more in ((), ("im2col",)))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-3)


def test_prefetched_batches_are_the_loaders_and_torch_cuts_no_operations_meanwhile():
    images = torch.randint(256, (70, 1, 32, 32), dtype=torch.uint8)
    loader = Batches(images, torch.arange(70), 20)
    ahead = fast_cpu.Prefetch(loader)
    assert len(ahead) == 4 and ahead.dataset is loader.dataset and ahead.batch_size == 20
    with fast_cpu.torch_threads(2):
        for (x, y), (a, b) in zip(ahead, loader, strict=True):
            assert torch.equal(x, a) and torch.equal(y, b) and torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_what_goes_wrong_in_a_chunk_or_a_batch_stops_the_run(training_set):
    class Fails:
        batch_size, dataset = 256, []

        def __iter__(self):
            raise ZeroDivisionError

    model, (images, labels) = LeNet5(), (part[:600] for part in training_set)
    with pytest.raises(ZeroDivisionError):
        list(fast_cpu.Prefetch(Fails()))
    with pytest.raises(IndexError):  # labels that are no classes, in the last chunk
        fast_cpu.gradients(model, F.cross_entropy, utils.standardise(images.float()),
                           torch.cat([labels[:-1], torch.tensor([99])]), n_chunks=3)


@pytest.mark.slow
def test_a_resumed_run_takes_as_many_threads_and_ends_in_the_same_weights(
        small_data, tmp_path, monkeypatch, capsys):
    """Whatever the machine would offer it now."""
    def arguments(*more):
        return [*more, "--checkpoint", str(tmp_path / "net.pth"), "--assets-dir", str(tmp_path)]

    def weights():
        return checkpoints.load_checkpoint(tmp_path / "net.pth")[0].state_dict()

    def stop(history, is_best):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    few = arguments("--epochs", "2", "--limit", "600")
    with fast_cpu.torch_threads(2):
        assert train.main(few) == 0
        straight = weights()
        with monkeypatch.context() as patch:
            patch.setattr(report, "epoch_line", stop)
            assert train.main(few) == 130
    assert "LeNet-5 on cpu, 2 threads: 600" in capsys.readouterr().out
    with fast_cpu.torch_threads(1):
        assert train.main(arguments("--resume")) == 0
        assert ", 2 threads: 600" in capsys.readouterr().out and torch.get_num_threads() == 1
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights().items())
    assert runs.load_state(tmp_path / "net.pth")["settings"]["threads"] == 2
    assert files.best_epoch(runs.load_state(tmp_path / "net.pth")["history"])
