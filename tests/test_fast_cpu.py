"""How many cores are ours, and that a batch's pieces give the same weights however they fall on them."""

import threading

import pytest
import torch
from torch import nn

from training import fast_cpu
from training import recipes
from training import report
from training import runs
import train
import utils
from training.data import Batches
from model import LeNet5

# How many

@pytest.mark.parametrize("own, files, expected", [
    ("0::/\n", {"": {"cpu.max": "200000 100000\n"}}, 2),
    ("0::/\n", {"": {"cpu.max": "max 100000\n"}}, float("inf")),
    ("0::/user/job\n", {"user/job": {"cpu.max": "max 100000\n"}, "user": {"cpu.max": "150000 100000\n"}}, 1.5),
    ("0::/user/job\n", {}, float("inf")),
    ("4:cpu,cpuacct:/job\n0::/\n", {"cpu/job": {"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}}, 3),
    ("4:cpu,cpuacct:/job\n", {"cpu/job": {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}}, float("inf")),
    ("7:memory:/job\n", {"": {"cpu.max": "200000 100000\n"}}, float("inf")),
])
def test_quota_of_a_control_group(tmp_path, own, files, expected):
    """own: what /proc/self/cgroup says; files: {folder below /sys/fs/cgroup: {name: text}}."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    for folder, content in files.items():
        folder = tmp_path / "sys/fs/cgroup" / folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            (folder / name).write_text(text)
    assert fast_cpu.quota(tmp_path) == expected


def test_no_control_groups_no_quota(tmp_path):
    assert fast_cpu.quota(tmp_path) == float("inf")


@pytest.mark.parametrize("affinity, quota, torchs, expected", [
    (8, float("inf"), 8, 8), (8, 2.5, 8, 2), (8, 0.5, 8, 1), (1, 4, 8, 1), (8, 8, 3, 3)])
def test_the_smallest_limit_counts(monkeypatch, affinity, quota, torchs, expected):
    monkeypatch.setattr(fast_cpu.os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(fast_cpu, "quota", lambda: quota)
    with fast_cpu.torch_threads(torchs):
        assert fast_cpu.count() == expected


def test_the_environment_decides_how_many(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    process = run("-c", "from training import fast_cpu; print(fast_cpu.count())")
    assert (process.stdout, process.stderr) == ("1\n", "")


# Pieces

@pytest.mark.parametrize("threads, batch_size, expected", [
    (2, 512, 2), (1, 512, 1), (4, 512, 4), (64, 512, 4), (2, 256, 2), (2, 255, 1), (2, 64, 1), (2, None, 1)])
def test_pieces_are_not_small(threads, batch_size, expected):
    loader = Batches(torch.zeros(9, 1, 32, 32), torch.zeros(9), batch_size)
    with fast_cpu.torch_threads(threads):
        assert fast_cpu.pieces(loader, "cpu") == expected
        assert fast_cpu.pieces(loader, "mps") == fast_cpu.pieces([], "cpu") == 1


def spread(*arguments):
    return [future.result() for future in fast_cpu.spread(*arguments)]


def test_spread_keeps_the_order_and_passes_on_what_goes_wrong():
    here = threading.get_ident()
    for n in (1, 3):
        with fast_cpu.workers(n) as executor:
            assert spread(executor, lambda a, b: a - b, range(50), range(1, 51)) == [-1] * 50
            for at_fault in range(3):
                with pytest.raises(ZeroDivisionError):
                    spread(executor, lambda a: 1 / a, [a != at_fault for a in range(3)])
            first, *others = spread(executor, lambda _: threading.get_ident(), range(3))
            assert first == here and (here in others) == (n == 1)


def test_operations_are_not_cut_where_batches_are():
    with fast_cpu.torch_threads(2):
        with pytest.raises(KeyError), fast_cpu.workers(3) as executor:
            assert spread(executor, lambda _: torch.get_num_threads(), range(3)) == [1, 1, 1]
            raise KeyError
        assert torch.get_num_threads() == 2
        with fast_cpu.workers(1) as executor:
            assert executor is None and torch.get_num_threads() == 2
    assert threading.active_count() < 3  # workers have gone


# Training

def one_epoch(images, labels, threads, **changes):
    """Return (loss, weights) of an epoch of the default recipe."""
    settings = dict(recipes.RECIPES["modern"], epochs=1, batch_size=390, seed=3)
    model, optimizer, loader, extras = recipes.prepare(settings, (images, labels), "cpu")
    with fast_cpu.torch_threads(threads):
        _, _, loss = train.train(loader, model, nn.CrossEntropyLoss(), optimizer, "cpu", **(extras | changes))
    return loss, model.state_dict()


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_same_threads_give_the_same_weights_and_others_nearly_the_same_loss(training_set, bfloat16):
    images, labels = (part[:1500] for part in training_set)
    ours, same, one = (one_epoch(images, labels, threads, bfloat16=bfloat16) for threads in (3, 3, 1))
    assert ours[0] == same[0] == pytest.approx(one[0], rel=0.02)
    assert all(torch.equal(weight, same[1][name]) for name, weight in ours[1].items())
    assert not any(torch.equal(weight, one[1][name]) for name, weight in ours[1].items())


@pytest.mark.parametrize("n", [1, 7, 300])
def test_gradients_of_the_pieces_are_those_of_the_batch(training_set, n):
    """The last batch is as small as it happens to be; no piece of it may be empty."""
    images, labels = (part[:n] for part in training_set)
    ((x, y),) = loader = Batches(images, labels, 512)
    model, expected, loss_func = LeNet5(), LeNet5(), nn.CrossEntropyLoss()
    expected.load_state_dict(model.state_dict())
    loss_func(expected(x)[0], y).backward()
    for threads in (1, 4):
        with fast_cpu.torch_threads(threads):
            standing = torch.optim.SGD(model.parameters(), lr=0)
            _, _, loss = train.train(loader, model, loss_func, standing, "cpu")
            logits, _ = utils.predict_all(model, loader, "cpu")
        assert loss == pytest.approx(loss_func(expected(x)[0], y).item(), rel=1e-5)
        torch.testing.assert_close(logits, expected(x)[0].detach())
        for ours, theirs in zip(model.parameters(), expected.parameters()):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_what_goes_wrong_in_a_step_stops_the_run(training_set):
    def fail():
        raise ZeroDivisionError

    model, loader = LeNet5(), Batches(*(part[:600] for part in training_set), 256)
    for threads in (1, 2):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.step = fail
        with fast_cpu.torch_threads(threads), pytest.raises(ZeroDivisionError):
            train.train(loader, model, nn.CrossEntropyLoss(), optimizer, "cpu")


def test_a_resumed_run_takes_as_many_threads_and_ends_in_the_same_weights(small_data, tmp_path, monkeypatch, capsys):
    """Whatever the machine would offer it now."""
    def arguments(*more):
        return [*more, "--checkpoint", str(tmp_path / "net.pth"), "--assets-dir", str(tmp_path)]

    def weights():
        return utils.load_checkpoint(tmp_path / "net.pth")[0].state_dict()

    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    monkeypatch.setattr(fast_cpu, "count", lambda: 2)
    few = arguments("--epochs", "2", "--limit", "600")
    assert train.main(few) == 0 and "LeNet-5 on cpu, 2 threads: 600" in capsys.readouterr().out
    straight, before = weights(), torch.get_num_threads()

    def stop(history, is_best):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "epoch_line", stop)
        assert train.main(few) == 130
    monkeypatch.setattr(fast_cpu, "count", lambda: 1)
    capsys.readouterr()
    assert train.main(arguments("--resume")) == 0 and ", 2 threads: 600" in capsys.readouterr().out
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights().items())
    assert runs.load_state(tmp_path / "net.pth")["settings"]["threads"] == 2 and torch.get_num_threads() == before
