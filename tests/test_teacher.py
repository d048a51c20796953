"""The distilled recipe: LeNet-5 learns the answers of a larger network."""

import pytest
import torch

import train
import utils
from model import LeNet5
from training import checkpoints, fast_cpu, recipes, report, teacher

FEW = ["--recipe", "distilled", "--epochs", "2", "--limit", "100", "--batch-size", "50"]


def arguments(folder, *more, name="net.pth"):
    return [*FEW, *more, "--checkpoint", str(folder / name)]


@pytest.fixture
def quick(small_data, monkeypatch):
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    monkeypatch.setitem(recipes.RECIPES["distilled"], "teacher_epochs", 1)


def weights(path):
    return checkpoints.load_checkpoint(path)[0].state_dict().values()


@pytest.mark.parametrize("n_chunks", [1, 2, 3])
def test_the_gradients_are_those_of_the_softened_answers_whatever_the_labels(n_chunks):
    torch.manual_seed(0)
    master, student, x = teacher.build_teacher().eval(), LeNet5(), torch.randn(20, 1, 32, 32)
    gradients = teacher.distill(fast_cpu.autograd_gradients, master, 2.0, n_chunks)
    _, found = gradients(student, None, x, torch.zeros(20, dtype=torch.long))
    with torch.no_grad():
        answers = (master(x) / 2).softmax(1)
    soft = (utils.compute_logits(student, x) / 2).log_softmax(1)
    wanted = torch.autograd.grad(-2 * (answers * soft).sum(1).mean(), list(student.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted))


def test_the_teacher_is_kept_and_can_teach_again(quick, tmp_path, capsys):
    assert train.main(arguments(tmp_path)) == 0
    out = capsys.readouterr().out
    assert out.count("a teacher of 279,402 weights") == 1 and out.count(report.HEADER) == 2
    assert train.main(arguments(tmp_path, "--teacher", str(tmp_path / "net.teacher.pth"), name="again.pth")) == 0
    assert "a teacher of" not in capsys.readouterr().out
    assert all(map(torch.equal, weights(tmp_path / "net.pth"), weights(tmp_path / "again.pth")))


def test_a_resumed_run_goes_on_with_its_teacher(quick, tmp_path, monkeypatch, capsys):
    assert train.main(arguments(tmp_path, name="whole.pth")) == 0
    save = checkpoints.save_checkpoint

    def stop(path, *args, **metadata):
        save(path, *args, **metadata)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("training.runs.save_checkpoint", stop)
        assert train.main(arguments(tmp_path)) == 130
    assert train.main(["--resume", *arguments(tmp_path)[len(FEW):]]) == 0
    assert all(map(torch.equal, weights(tmp_path / "net.pth"), weights(tmp_path / "whole.pth")))


def test_what_is_no_teacher_is_one_line(quick, tmp_path, checkpoint, capsys):
    assert train.main(arguments(tmp_path, "--teacher", str(checkpoint))) == 1
    assert capsys.readouterr().err == (f"train.py: {checkpoint} is no teacher; python train.py --recipe distilled makes "
                                       "one, NAME.teacher.pth\n")
