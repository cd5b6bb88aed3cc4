"""Relative gates by day, by night and after a bad first frame."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

import mmskip

GATE = dict(type='OutputNormGate', threshold=0.2, order=2, relative=True)


def scene(number: int, gain: float = 1.0, noise: float = 0.5) -> list[Tensor]:
    """Frames of a still scene with a sensor's noise."""
    draw = torch.Generator().manual_seed(0)
    still = 100 + 20 * torch.randn(1, 3, 32, 32, generator=draw)
    return [
        gain * (still + noise * torch.randn(still.shape, generator=draw))
        for _ in range(number)
    ]


def shares(video: list[Tensor], offset: float = 0.0) -> list[float]:
    """Which share of a convolution's outputs each frame computes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    nn.init.constant_(net[0].bias, offset)
    mmskip.convert(net.eval(), mmskip.SkipConversion(GATE, 'accumulated'))
    found = []
    with torch.no_grad(), mmskip.stream(net) as state:
        for frame in video:
            net(frame)
            (mask,) = state.last_masks().values()
            found.append(mask.float().mean().item())
    return found


def night() -> tuple[bool, str]:
    """What moves is computed at night as by day, whatever the offset."""
    found = []
    for gain in (1.0, 0.1):
        video = scene(2, gain)
        video[1][..., 8:16, 8:16] += 40 * gain
        found.append(shares(video, offset=100.0)[1])
    day, dark = found
    held = 0.03 < day < 0.2 and 0.9 * day < dark < 1.1 * day
    return held, f'computed {day:.1%} by day and {dark:.1%} at night'


def bad_first_frame() -> tuple[bool, str]:
    """A black or white first frame does not stay in the statistics."""
    video = scene(6)
    found = {}
    for name, level in (('black', 0.0), ('white', 255.0)):
        first = torch.full_like(video[0], level)
        found[name] = shares([first, *video])[-1]
    held = all(share < 0.01 for share in found.values())
    return held, ', '.join(f'{k}: {v:.1%}' for k, v in found.items())


def lights() -> tuple[bool, str]:
    """Lights that go off and on in mid-stream leave no trace in the cost."""
    video = [*scene(3), *scene(3, 0.1), *scene(3)]
    moved = video[5].clone()
    moved[..., 8:16, 8:16] += 4
    found = shares([*video[:6], moved, *video[6:]])
    held = found[5] < 0.01 and 0.03 < found[6] < 0.2 and found[-1] < 0.01
    return held, ' '.join(f'{share:.2f}' for share in found)


@dataclass(frozen=True)
class Recorded:
    """A motion that keeps the images that it gets."""

    interpolate: bool = False
    pairs: list = field(default_factory=list, compare=False)

    def estimate(self, previous: np.ndarray, current: np.ndarray) -> None:
        """See ``mmskip.skip_conv.motion.Motion``."""
        self.pairs.append((previous, current))


def grey_scale() -> tuple[bool, str]:
    """Motion is estimated on grey images that a black frame has not spoilt."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    mmskip.convert(net.eval(), mmskip.SkipConversion(GATE, 'accumulated'))
    net[0].motion = motion = Recorded()
    video = scene(3)
    with torch.no_grad(), mmskip.stream(net):
        for frame in (torch.zeros_like(video[0]), *video):
            net(frame)
    contrast = motion.pairs[-1][1].std()
    return contrast > 10, f'the last image varies by {contrast:.1f}'


CHECKS = night, bad_first_frame, lights, grey_scale
