"""The teacher of the distilled recipe: a larger network, whose answers LeNet-5 learns.

    python train.py --recipe distilled                                 trains a teacher first
    python train.py --recipe distilled --teacher Model/LeNet5.teacher.pth --seed 1      takes one

A label says "4". A teacher says "4, and a bit like a 9", of every image, however distorted, and of
every negative: that is more to learn from (Hinton, Vinyals and Dean 2015, Distilling the Knowledge
in a Neural Network). It takes many epochs to pay, and teacher and student have to see the same
view of an image (Beyer et al. 2022, Knowledge distillation: A good teacher is patient and
consistent).
"""

import torch
from torch import nn
from torch.nn import functional as F

from training import report
from training.checkpoints import read_file, save_file
from training.data import Batches
from training.fast_cpu import chunk_threads
from training.files import best_epoch
from training.recipes import make_loader, make_optimizer, make_schedule
from utils import LeNetError

def build_teacher():
    """Return a new teacher, which turns (N, 1, 32, 32) into logits (N, 10).

    279,402 weights and 14 million multiplications an image, where LeNet-5 has 61,706 and 0.4.
    """
    def convolve(inputs, outputs, size, stride=1):
        return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
                nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *convolve(1, 32, 5, stride=2),                                           # 32, 16, 16
        *convolve(32, 64, 3), nn.MaxPool2d(2),                                   # 64, 8, 8
        *convolve(64, 64, 3), *convolve(64, 128, 3), nn.MaxPool2d(2),            # 128, 4, 4
        *convolve(128, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def train_teacher(training_process, settings, train_set, valid_set, device, own=None):
    """Return a teacher trained as the student will be, on the same images, but with their labels.

    training_process: train.py's; the other arguments as recipes.prepare()'s.
    """
    torch.manual_seed(settings["seed"])
    teacher = build_teacher().to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(teacher, settings["lr"], device, settings["ingredients"])
    loader, epochs = make_loader(settings, train_set, own), settings["teacher_epochs"]
    n_weights = sum(weight.numel() for weight in teacher.parameters())
    print(f"a teacher of {n_weights:,} weights comes first: {epochs} epochs, and on a CPU each "
          f"takes as long as some fifteen of LeNet-5's\n{report.HEADER}", flush=True)

    def tell(history, best_weights):
        print(report.epoch_line(history[-1], best_epoch(history) is history[-1]), flush=True)

    best, _, _ = training_process(
        teacher, nn.CrossEntropyLoss(), optimizer, loader, Batches(*valid_set, 1000), epochs,
        device, scheduler=make_schedule(optimizer, epochs * len(loader)), on_epoch=tell)
    return best.eval()


def load_teacher(path, device):
    """Return the teacher in the file path; raise LeNetError if there is none in it."""
    teacher = build_teacher()
    try:
        teacher.load_state_dict(read_file(path)["teacher"])
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise LeNetError(f"{path} is no teacher; python train.py --recipe distilled makes one, "
                         "NAME.teacher.pth") from error
    return teacher.to(device, memory_format=torch.channels_last).eval()


def save_teacher(teacher, path):
    """Write a teacher to path, for load_teacher()."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in teacher.state_dict().items()}
    save_file(path, {"teacher": weights})


def distill(gradients, teacher, temperature, n_chunks=1):
    """Return gradients, a function as fast_cpu's, with the teacher's answers for labels.

    temperature: what logits are divided by, so that answers are less sure and say more of what an
    image looks like besides. n_chunks: how many threads compute the answers, on a CPU.
    """
    @torch.no_grad()  # in each thread
    def answer(x):
        return F.softmax(teacher(x) / temperature, 1)

    def soft_cross_entropy(logits, answers):
        return temperature * F.cross_entropy(logits / temperature, answers)

    def distilled_gradients(model, loss_func, x, y):
        chunks = chunk_threads(n_chunks).map(answer, x.chunk(n_chunks)) if n_chunks > 1 else [
            answer(x)]
        return gradients(model, soft_cross_entropy, x, torch.cat(list(chunks)))

    return distilled_gradients
