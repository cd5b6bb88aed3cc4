"""Faults of ``fold``: each function says whether its property holds."""

import torch
from torch import nn

import mmskip


class PreActivation(nn.Module):
    """Norm, ReLU, convolution, as in ResNet v2; defined conv, norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute a block."""
        y = self.conv1(self.norm1(x).relu())
        return x + self.conv2(self.norm2(y).relu())


class Kept(nn.Module):
    """Something else reads what the convolution returns, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute a block."""
        y = self.conv(x)
        return torch.cat([y, self.norm(y)], 1)


def error_of_fold(net: nn.Module) -> float:
    """The largest error that folding makes, of the largest output."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -2, 2)
    net.eval()
    x = torch.randn(2, 8, 12, 12)
    with torch.no_grad():
        expected = net(x)
        mmskip.fold(net)
        error = (net(x) - expected).abs().max() / expected.abs().max()
    return float(error)


def fold_pairs_by_dataflow() -> tuple[bool, str]:
    """A norm is folded only into a convolution that it alone reads."""
    torch.manual_seed(0)
    watched = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    watched[0].register_forward_hook(lambda module, args, y: 2 * y.tanh())
    nets = {
        'pre-activation': PreActivation(),
        'read twice': Kept(),
        'hook between': watched,
    }
    errors = {name: error_of_fold(net) for name, net in nets.items()}
    detail = ', '.join(f'{name} {error:.1e}' for name, error in errors.items())
    return max(errors.values()) <= 1e-4, f'relative errors: {detail}'


CHECKS = (fold_pairs_by_dataflow,)
