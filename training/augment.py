"""Augmentation: distortions of training images.

Images are float (N, 1, 32, 32), 0 paper .. 1 ink, on any device; a generator is a CPU generator, so
that the same seed distorts alike on every device. What comes in from outside the picture is 0:
paper.
"""

import functools

import torch
from torch.nn import functional as F


def uniform(n, limit, generator):
    """Return n random numbers, uniform in -limit .. limit."""
    return torch.empty(n).uniform_(-limit, limit, generator=generator)


CENTRES = torch.arange(-31, 32, 2) / 32  # of 32 pixels, in halves of the side from the middle


@functools.cache
def warp_basis():
    """Return what every warp is a sum of: x, y, 1 and 36 bumps, float (39, 1024).

    x and y are those of the 1024 pixels' centres, in halves of the side from the middle; the bumps
    are bicubic, one around each knot of a 6x6 grid.
    """
    y, x = torch.meshgrid(CENTRES, CENTRES, indexing="ij")
    bump = F.interpolate(torch.eye(6)[None, None], size=(32, 6), mode="bicubic",
                         align_corners=True)[0, 0]  # (32, 6)
    return torch.cat([torch.stack([x, y, torch.ones(32, 32)]).flatten(1),
                      torch.kron(bump, bump).T])


def warp(images, coefficients):
    """Return images with each pixel taken, bilinearly, from another place.

    coefficients, float (N, 2, K), say from where: x and y of the place are sums of the first K
    functions of warp_basis().
    """
    basis = warp_basis()[:coefficients.shape[2]].to(images.device)
    places = coefficients.to(images.device) @ basis  # (N, 2, 1024)
    grid = places.view(-1, 2, 32, 32).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)


def affine(radians, scale_x=1.0, scale_y=1.0, shear=0.0, shift=0.0):
    """Return the coefficients (N, 2, 3) of N affine maps about the middle.

    radians, scales and shear have shape (N,); shift has shape (2, N), in halves of the side.
    """
    cos, sin = radians.cos(), radians.sin()
    x, y = torch.broadcast_to(torch.as_tensor(shift), (2, len(radians)))
    return torch.stack([cos / scale_x, (shear * cos - sin) / scale_x, x,
                        sin / scale_y, (shear * sin + cos) / scale_y, y], dim=1).view(-1, 2, 3)


def random_rotation(images, degrees, generator):
    """Rotate each image by its own angle, uniform in +-degrees."""
    return warp(images, affine(torch.deg2rad(uniform(len(images), degrees, generator))))


def random_affine(n, generator, rotation=True):
    """Return the coefficients of n random affine maps (LeCun et al. 1998, section III.B; Simard et
    al. 2003).

    All uniform: scale e^(+-0.15), width against height e^(+-0.12), shear +-0.15, shift +-2 pixels,
    angle +-15 degrees. With rotation, 6 % of the images get an angle in +-45 instead: enough to
    learn to read them, and few enough not to cost upright digits their accuracy.
    """
    degrees = uniform(n, 15, generator)
    if rotation:
        rare = torch.rand(n, generator=generator) < 0.06
        degrees = torch.where(rare, uniform(n, 45, generator), degrees)
    scale_x = uniform(n, 0.15, generator).exp()
    scale_y = scale_x * uniform(n, 0.12, generator).exp()
    shear = uniform(n, 0.15, generator)
    shift = uniform((2, n), 2 / 16, generator)
    return affine(torch.deg2rad(degrees), scale_x, scale_y, shear, shift)


def random_elastic(n, generator):
    """Return the coefficients (n, 2, 36) of n smooth random displacements (after Simard et al.
    2003, section 2).

    At the 6x6 knots they are normal with standard deviation 0.4 pixels; in between, interpolated.
    """
    return torch.randn(n, 2, 36, generator=generator) * (0.4 / 16)


def thicken(images):
    """Return images dilated with a 2x2 square: each pixel the largest of itself and its right and
    lower neighbours."""
    images = torch.maximum(images, F.pad(images[..., 1:], (0, 1)))
    return torch.maximum(images, F.pad(images[..., 1:, :], (0, 0, 0, 1)))


def random_thickness(images, generator):
    """Make the strokes of a quarter of the images thicker, of another quarter thinner.

    Grey-scale dilation and erosion with a 2x2 square (Serra 1982), blended in with a weight uniform
    in 0 .. 1. Pens differ more than the two of MNIST's writers. The order of images in a batch is
    random, so which images change is too.
    """
    quarter = len(images) // 4
    changed = torch.cat([thicken(images[:quarter]), -thicken(-images[quarter:2 * quarter])])
    weight = torch.rand(2 * quarter, 1, 1, 1, generator=generator).to(images.device)
    return torch.cat([torch.lerp(images[:2 * quarter], changed, weight), images[2 * quarter:]])


def make_augment(ingredients):
    """Return the function augment(images, generator) of a recipe's ingredients, or None if they
    distort nothing."""
    def augment(images, generator):
        if "stroke-thickness" in ingredients:
            images = random_thickness(images, generator)
        if "affine" in ingredients:
            n, rotation = len(images), "random-rotation" in ingredients
            coefficients = random_affine(n, generator, rotation)
            if "elastic" in ingredients:
                coefficients = torch.cat([coefficients, random_elastic(n, generator)], dim=2)
            images = warp(images, coefficients)
        return images

    return augment if {"stroke-thickness", "affine"} & set(ingredients) else None
