"""SOAP, the default recipe's optimizer: Adam in the eigenbasis of each layer's gradients."""

import torch


class SOAP(torch.optim.Optimizer):
    """Adam in the coordinates in which a layer's gradients are least correlated (Vyas et al. 2024,
    SOAP: Improving and Stabilizing Shampoo using Adam, algorithm 3).

    Adam looks at each weight alone, but neighbouring pixels rise and fall together, and so do the
    gradients of the weights that they meet. Here the gradient G of a layer, as a matrix (outputs,
    inputs), is turned into the eigenvectors of the running means of G G' and G' G; Adam's step is
    made there, and turned back. The eigenvectors follow the means by one step of orthogonal
    iteration now and then. Biases get plain Adam.

    A group's weight_decay shrinks its weights by lr * weight_decay in each step (Loshchilov and
    Hutter 2019).
    """

    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, group)

    def _step(self, weight, group):
        """Make a step of one layer's weights."""
        state, is_matrix = self.state[weight], weight.ndim > 1
        update = weight.grad.reshape(len(weight), -1) if is_matrix else weight.grad
        if is_matrix:  # (outputs, inputs)
            follow_eigenvectors(state, update)
            update = state["left"].T @ update @ state["right"]
        update = adam_step(state, update, *group["betas"])
        if is_matrix:
            update = state["left"] @ update @ state["right"].T
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(update.view_as(weight), alpha=group["lr"])


def follow_eigenvectors(state, gradient):
    """Let the columns of state's left and right follow the eigenvectors of the running means of
    G G' and G' G.

    Both change slowly and cost much, so the means take in every fourth gradient, and the
    eigenvectors follow every fifth of them.
    """
    step = state.get("step", 0)
    if step % 4:
        return
    for side, product in ("left", gradient @ gradient.T), ("right", gradient.T @ gradient):
        if step == 0:
            state[f"{side}_mean"] = product
            state[side] = torch.eye(len(product), device=product.device)
        mean, old = state[f"{side}_mean"].lerp_(product, 0.04), state[side]
        if step % 20 == 0:
            product = (mean @ old).cpu()  # not every device has a qr
            state[side] = torch.linalg.qr(product)[0].to(old.device)
            if step > 0:  # Adam's mean turns with the axes
                turn = state[side].T @ old
                moment = state["mean"]
                state["mean"] = turn @ moment if side == "left" else moment @ turn.T


def adam_step(state, gradient, beta1, beta2):
    """Return Adam's step for gradient, in units of the learning rate (Kingma and Ba 2015,
    algorithm 1)."""
    if "step" not in state:
        state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    mean = state["mean"].lerp_(gradient, 1 - beta1)
    square = state["square"].lerp_(gradient.square(), 1 - beta2)
    mean, square = mean / (1 - beta1 ** state["step"]), square / (1 - beta2 ** state["step"])
    return mean / (square.sqrt_() + 1e-8)
