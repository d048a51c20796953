"""The products give what the layers give: logits and gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training import fast_cpu
from training import recipes
import train
from training.data import Batches
from model import LeNet5


def differences(n, dtype):
    """Return the relative distances of logits and gradients, the layers' in float64 and the products', for n images."""
    torch.manual_seed(n)
    model, exact = LeNet5(), LeNet5().double()
    exact.load_state_dict(model.state_dict())
    x, y = torch.randn(n, 1, 32, 32), torch.randint(10, (n,))
    ours, theirs = fast_cpu.compute_logits(model, x, dtype), exact(x.double())[0]
    assert ours.dtype == dtype and ours.shape == (n, 10)
    F.cross_entropy(ours.float(), y).backward()
    F.cross_entropy(theirs, y).backward()
    pairs = [(ours, theirs), *((a.grad, b.grad) for a, b in zip(model.parameters(), exact.parameters()))]
    assert all(a.dtype == torch.float32 for a, _ in pairs[1:])
    return [((a.double() - b).norm() / b.norm()).item() for a, b in pairs]


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_products_are_the_layers_sums(n):
    assert max(differences(n, torch.float32)) < 2e-5
    assert max(differences(n, torch.bfloat16)) < 0.05


def test_a_stage_is_convolution_tanh_and_pooling_for_any_size_and_number_of_maps():
    for channels, height, width, n_maps in (1, 6, 6, 1), (2, 8, 14, 5), (3, 16, 10, 2):
        x = torch.randn(4, channels, height, width, dtype=torch.float64)
        weight, bias = torch.randn(n_maps, channels, 5, 5), torch.randn(n_maps)
        leaves = [[tensor.clone().requires_grad_() for tensor in (x.float(), weight, bias)],
                  [tensor.double().requires_grad_() for tensor in (x, weight, bias)]]
        ours = fast_cpu.ConvTanhPool.apply(leaves[0][0].permute(1, 2, 3, 0).contiguous(), *leaves[0][1:]).permute(3, 0, 1, 2)
        theirs = F.avg_pool2d(torch.tanh(F.conv2d(*leaves[1])), 2)
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-4)
        towards = torch.randn(theirs.shape)
        gradients = [torch.autograd.grad((out * towards).sum(), of) for out, of in zip((ours, theirs), leaves)]
        for a, b in zip(*gradients):
            torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-3)


def test_where_products_are_taken():
    """On the CPU, if the recipe has them; a GPU has better ways."""
    few = torch.zeros(20, 1, 32, 32, dtype=torch.uint8), torch.arange(20) % 10
    for name, expected in (("modern", True), ("classic", False)):
        settings = dict(recipes.RECIPES[name], seed=0, epochs=1)
        assert recipes.prepare(settings, few, "cpu")[3]["by_products"] is expected
    assert recipes.prepare(dict(settings, ingredients=("products",)), few, "meta")[3]["by_products"] is False


def test_an_epoch_by_products_is_an_epoch(training_set):
    """The same loss and nearly the same weights, in float32."""
    images, labels = (part[:500] for part in training_set)
    losses, weights = [], []
    for by_products in (False, True):
        torch.manual_seed(0)
        model = LeNet5()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses.append(train.train(Batches(images, labels, 50), model, nn.CrossEntropyLoss(), optimizer, "cpu",
                                  by_products=by_products)[2])
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert not torch.equal(*weights)  # it was computed in another way
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-3)
