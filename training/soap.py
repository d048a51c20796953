"""SOAP, the default recipe's optimizer: Adam in the eigenbasis of each layer's gradients."""

import torch


class SOAP(torch.optim.Optimizer):
    """Adam in the coordinates in which a layer's gradients are least correlated: SOAP (Vyas et al. 2024, algorithm 3).

    Adam looks at each weight alone, but weights are not alone: neighbouring pixels rise and fall together, and so do the
    gradients of the weights that they meet. Here the gradient G of a layer, as a matrix (outputs, inputs), is turned into
    the eigenvectors of the running means of G G' and G' G; Adam's step is made there, and turned back. The eigenvectors
    follow the means by one step of orthogonal iteration now and then. Biases get plain Adam.

    A group's decay shrinks its weights by lr * decay in each step (Loshchilov and Hutter 2019).
    """

    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state, update = self.state[weight], weight.grad.reshape(len(weight), -1)  # (outputs, inputs)
                if weight.ndim > 1:
                    follow_axes(state, update)
                    update = state["left"].T @ update @ state["right"]
                update = adam_step(state, update, *group["betas"])
                if weight.ndim > 1:
                    update = state["left"] @ update @ state["right"].T
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view_as(weight), alpha=group["lr"])


def follow_axes(state, gradient):
    """Let the axes, the columns of state's left and right, follow the eigenvectors of the running means of G G' and G' G.

    Both change slowly and cost much, so the means take in every fourth gradient, the axes every twentieth mean.
    """
    step = state.get("step", 0)
    if step % 4:
        return
    for side, product in ("left", gradient @ gradient.T), ("right", gradient.T @ gradient):
        if step == 0:
            state[f"{side}_mean"], state[side] = product, torch.eye(len(product), device=product.device)
        mean, old = state[f"{side}_mean"].lerp_(product, 0.04), state[side]
        if step % 20 == 0:
            state[side] = torch.linalg.qr((mean @ old).cpu())[0].to(old.device)  # not every device has a qr
            if step > 0:  # what Adam remembers turns with the axes
                turn = state[side].T @ old
                state["mean"] = turn @ state["mean"] if side == "left" else state["mean"] @ turn.T


def adam_step(state, gradient, beta1, beta2):
    """Return Adam's step for gradient, in units of the learning rate (Kingma and Ba 2015, algorithm 1)."""
    if "step" not in state:
        state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    mean, square = state["mean"].lerp_(gradient, 1 - beta1), state["square"].lerp_(gradient.square(), 1 - beta2)
    return mean / (1 - beta1 ** state["step"]) / ((square / (1 - beta2 ** state["step"])).sqrt_() + 1e-8)
