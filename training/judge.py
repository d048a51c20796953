"""Ask the network which digits views show.

    probabilities = read_views(model, views)

A view is judged as it stands and turned a little either way, and the mean of the three counts. A
digit stays the same digit then; of what is none, or half of one, the network is often sure as it
stands and says something else once it is turned.
"""

import math

import numpy as np
import torch

import utils
from training.augment import affine, warp

TURN = 8  # degrees; training turns digits by up to 15


def read_views(model, views):
    """Return the probabilities, float (N, 10) array, of views, uint8 (28, 28) arrays."""
    inputs = utils.resize(torch.from_numpy(np.stack(views)))
    turned = [turn(inputs, degrees) for degrees in (-TURN, TURN)]
    probabilities = read_inputs(model, torch.cat([inputs, *turned]))
    return probabilities.view(3, len(views), -1).mean(0).numpy()


@torch.inference_mode()
def read_inputs(model, inputs):
    """Return the probabilities, float (N, 10) on the CPU, of inputs, uint8 (N, 1, 32, 32)."""
    device = next(model.parameters()).device
    batches = (part.to(device).float().div_(255) for part in inputs.split(500))
    logits = [utils.compute_logits(model, utils.standardise(batch)) for batch in batches]
    return torch.cat(logits).softmax(1).cpu()


def turn(images, degrees):
    """Return images, uint8 (N, 1, 32, 32), turned about their middle, clockwise."""
    angles = torch.full((len(images),), -math.radians(degrees))
    return warp(images.float(), affine(angles)).round().to(torch.uint8)
