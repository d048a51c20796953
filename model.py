"""LeNet-5, the convolutional network of LeCun, Bottou, Bengio and Haffner (1998).

    Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11), section II.B, fig. 2

61,706 parameters, nothing to configure:

    logits, probabilities = LeNet5()(torch.zeros(1, 1, 32, 32))
"""

import torch
from torch import nn


class LeNet5(nn.Module):
    """Classify 32x32 grey images into n_classes.

    1998    here                      output (C, H, W)    parameters
    input                              1, 32, 32
    C1      Conv2d 5x5 + tanh          6, 28, 28          6 * (1*25 + 1)       =    156
    S2      AvgPool2d 2x2              6, 14, 14                                      0
    C3      Conv2d 5x5 + tanh         16, 10, 10          16 * (6*25 + 1)      =  2,416
    S4      AvgPool2d 2x2             16,  5,  5                                      0
    C5      Conv2d 5x5 + tanh        120,  1,  1          120 * (16*25 + 1)    = 48,120
    F6      Linear + tanh             84                  84 * (120 + 1)       = 10,164
    output  Linear (+ softmax)        10                  10 * (84 + 1)        =    850
                                                          total                  61,706

    Where this differs from the paper, and why:
    - C3 sees all six maps of S2. The 1998 table of connections (60 of 96) was there to save
      multiplications and to break symmetry. Random weights at the start break it, too, and with
      today's convolutions fewer connections are slower.
    - S2 and S4 are plain averages. The paper adds a trainable gain and bias per map and a sigmoid;
      the convolution that follows can express gain and bias itself.
    - tanh(x) in place of 1.7159 tanh(2x/3): the scaling suits targets of +-1, which the next point
      does away with.
    - The output is linear and meant for softmax and cross entropy, in place of Euclidean radial
      basis functions on hand-drawn 7x12 bitmaps: it gives probabilities and needs no penalty
      against collapsing centres.
    """

    def __init__(self, n_classes=10):
        super().__init__()
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5),      # C1
            nn.Tanh(),
            nn.AvgPool2d(kernel_size=2),         # S2
            nn.Conv2d(6, 16, kernel_size=5),     # C3
            nn.Tanh(),
            nn.AvgPool2d(kernel_size=2),         # S4
            nn.Conv2d(16, 120, kernel_size=5),   # C5
            nn.Tanh(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(120, 84),                  # F6
            nn.Tanh(),
            nn.Linear(84, n_classes),            # output
        )

    def forward(self, x):
        """Return (logits, probabilities), each float (N, n_classes).

        x: float (N, 1, 32, 32), standardised. Raises ValueError if x has any other shape.
        """
        if x.ndim != 4 or list(x.shape[1:]) != [1, 32, 32]:  # lists: TorchScript knows few tuples
            shape = ", ".join([str(n) for n in x.shape])
            raise ValueError(f"LeNet5 takes images of shape (N, 1, 32, 32), got ({shape})")
        features = self.feature_extractor(x)               # (N, 120, 1, 1)
        logits = self.classifier(features.flatten(1))      # (N, n_classes)
        return logits, torch.softmax(logits, dim=1)
