"""What a recipe is made of does what its formula says."""

import pytest
import torch
from torch import nn

from training import recipes
from training.soap import SOAP
from model import LeNet5


def test_schedule_fits_itself_to_the_number_of_steps():
    for steps in (100, 1000):
        optimizer = recipes.make_optimizer(LeNet5(), 0.1, "cpu")
        scheduler, rates = recipes.make_schedule(optimizer, steps), []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step() if len(rates) < steps else None
        assert max(rates) == pytest.approx(0.1) and rates.index(max(rates)) == pytest.approx(
            0.05 * steps, abs=2
        )
        assert rates[-1] == pytest.approx(0.1 / (0.95 * steps)) and rates[0] == pytest.approx(
            0.1 / (0.05 * steps)
        )


def test_decay_is_for_weights_and_not_for_biases():
    for ingredients, decay in ((), 0.0), (("weight-decay",), 0.2), (("weight-decay", "soap"), 0.2):
        for group in recipes.make_optimizer(LeNet5(), 0.1, "cpu", ingredients).param_groups:
            assert all(
                group["weight_decay"] == (decay if parameter.ndim > 1 else 0.0)
                for parameter in group["params"]
            )


def correlated_gradients(weight, target, generator):
    """Gradients of |weight x - target x|^2 for x whose entries rise and fall together, as pixels
    do."""
    x = torch.randn(weight.shape[1], 64, generator=generator) * 0.1 + torch.randn(
        1, 64, generator=generator
    )
    return (weight - target) @ x @ x.T / 64


def test_soap_leaves_correlated_inputs_behind():
    """Adam needs many more steps along the direction in which the inputs' differences lie."""
    distances = {}
    for make_optimizer in (torch.optim.Adam, SOAP):
        generator = torch.Generator().manual_seed(0)
        weight, target = nn.Parameter(torch.zeros(8, 16)), torch.randn(8, 16, generator=generator)
        optimizer = make_optimizer([weight], lr=0.02)
        for _ in range(200):
            weight.grad = correlated_gradients(weight.detach(), target, generator)
            optimizer.step()
        distances[make_optimizer] = (weight - target).norm().item()
    assert distances[SOAP] < 0.5 * distances[torch.optim.Adam]


def test_the_axes_of_soap_are_the_eigenvectors_of_the_gradients_products():
    generator = torch.Generator().manual_seed(0)
    weight, mix = nn.Parameter(torch.zeros(4, 6)), torch.randn(6, 6, generator=generator)
    optimizer = SOAP([weight], lr=0.001)
    for _ in range(400):
        weight.grad = torch.randn(4, 6, generator=generator) @ mix
        optimizer.step()
    state = optimizer.state[weight]
    for side in ("left", "right"):
        basis = state[side]
        torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)), atol=1e-5, rtol=0)
    found = state["right"].T @ (mix.T @ mix) @ state["right"]
    assert (found - found.diag().diag()).norm() < 0.5 * found.diag().norm()
    assert found.diag()[0] == pytest.approx(
        torch.linalg.eigvalsh(mix.T @ mix).max().item(), rel=0.1
    )


def test_what_soap_remembers_turns_with_its_axes():
    generator, remembered = torch.Generator().manual_seed(0), torch.zeros(4, 6)
    weight = nn.Parameter(torch.zeros(4, 6))
    optimizer = SOAP([weight], lr=0.001, betas=(0.95, 0.99))
    for _ in range(50):
        weight.grad = torch.randn(4, 6, generator=generator)
        remembered.lerp_(weight.grad, 0.05)
        optimizer.step()
    state = optimizer.state[weight]
    torch.testing.assert_close(
        state["left"] @ state["mean"] @ state["right"].T, remembered, atol=1e-5, rtol=0
    )


def test_soap_is_adam_for_biases_and_weights_decay_by_the_rate():
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizers = SOAP([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for step in range(10):
        ours.grad = theirs.grad = torch.arange(5.0) - step
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    for ingredients in (("weight-decay",), ("weight-decay", "soap")):
        model = LeNet5()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        recipes.make_optimizer(model, 0.1, "cpu", ingredients).step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(
                parameter, before[name] * (0.98 if parameter.ndim > 1 else 1)
            )


def test_the_recipes_optimizers():
    assert (
        type(
            recipes.make_optimizer(
                LeNet5(), 0.001, "cpu", recipes.RECIPES["classic"]["ingredients"]
            )
        )
        is torch.optim.Adam
    )
    assert (
        type(
            recipes.make_optimizer(LeNet5(), 0.001, "cpu", recipes.RECIPES["modern"]["ingredients"])
        )
        is SOAP
    )


@pytest.mark.parametrize(
    "names, expected",
    [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_bfloat16_only_where_the_processor_has_it(monkeypatch, names, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: names)
    assert recipes.has_bfloat16() is expected


def test_numbers_of_a_recipe_can_be_set():
    settings = recipes.make_settings(set=["weight_decay=0", "negatives=0.5"], epochs=3)
    assert (
        settings["weight_decay"] == 0 and settings["negatives"] == 0.5 and settings["epochs"] == 3
    )
    few = torch.zeros(100, 1, 32, 32, dtype=torch.uint8), torch.arange(100) % 10
    _, optimizer, loader, _ = recipes.prepare(settings | {"batch_size": 50}, few, "cpu")
    assert optimizer.param_groups[0]["weight_decay"] == 0 and len(loader) == 4  # 151 images


@pytest.mark.parametrize("recipe, text", [
    ("modern", "weight_decay"), ("modern", "weight_decay=much"), ("modern", "lr=0.1"),
    ("modern", "weight_decay=-1"), ("modern", "negatives=1e9"), ("modern", "warm_up=nan"),
    ("classic", "weight_decay=0.1"), ("modern", "ingredients=3"), ("modern", "=1")])
def test_what_is_no_number_of_the_recipe_is_refused(recipe, text):
    with pytest.raises(ValueError, match=f"argument --set: .*{recipe} recipe.*got {text}"):
        recipes.make_settings(recipe, set=[text])


def test_deterministic_settings_leave_out_what_depends_on_the_processor():
    settings = recipes.make_settings(deterministic=True, without=["elastic"])
    assert not {"bfloat16", "im2col", "elastic"} & set(settings["ingredients"])
    assert "soap" in settings["ingredients"] and settings["deterministic"]
