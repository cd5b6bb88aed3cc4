"""Batch norms that have seen data."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def is_norm(module):
    return isinstance(module, _BatchNorm)


@torch.no_grad()
def stir(net):
    """Statistics and factors, some below 0, that a wrong fold would show."""
    for module in filter(is_norm, net.modules()):
        nn.init.uniform_(module.running_mean, -1, 1)
        nn.init.uniform_(module.running_var, 0.5, 2)
        if module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight[::3] *= -1
            nn.init.uniform_(module.bias, -1, 1)
    net.eval()  # that of some backbones returns nothing
    return net
