import torch
from torch import nn

from mmskip.apis.zoo_models import draw_weights, taking_statistics


class Uninitialised(nn.Module):
    """As mmdet's TridentConv before anybody gives it weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 3, 1, 1), float('nan')))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight)


def test_no_parameter_keeps_what_it_was():
    net = nn.Sequential(
        Uninitialised(), nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4)
    )
    for parameter in net[1:].parameters():
        nn.init.zeros_(parameter)

    draw_weights(net)

    assert all((p != 0).all() for p in net.parameters())
    assert all(p.isfinite().all() for p in net.parameters())


def test_the_same_seed_gives_the_same_weights():
    first, second = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)

    draw_weights(first, 1)
    draw_weights(second, 1)

    assert torch.equal(first.weight, second.weight)


def test_values_behind_many_batch_norms_stay_around_one():
    net = nn.Sequential()
    for _ in range(40):
        net.extend([nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)])
    net.eval()
    draw_weights(net)
    x = torch.randn(1, 4, 9, 9)

    with torch.no_grad(), taking_statistics(net):
        first = net(x)
    with torch.no_grad():
        again = net(x)

    assert torch.equal(first, again)
    assert 0.01 < again.std() < 100
