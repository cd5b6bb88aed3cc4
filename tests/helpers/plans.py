"""Run networks in plans of a precision, and compare what they return."""

import os
import subprocess
import sys

import torch

import mmskip
from mmskip import StreamState

OPEN = dict(type='InputNormGate', threshold=0.0)
RELATIVE = dict(type='OutputNormGate', threshold=0.1, order=2, relative=True)
#: What to set for kernels that this CPU would not choose.
INSTRUCTIONS = [
    dict(MMSKIP_TILES='emulated'),
    dict(ATEN_CPU_CAPABILITY='default'),
]


def converted(net, gate=OPEN, memory='accumulated'):
    net = net.eval()
    mmskip.convert(net, mmskip.SkipConversion(gate, memory=memory))
    return net


@torch.no_grad()
def run(net, video, state=None):
    outputs = []
    with mmskip.stream(net, state or StreamState()):
        for x in video:
            outputs.append(net(x))
    return outputs


def error(one, other):
    """The largest difference, as a share of the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


def run_tests_with(instructions, file, names):
    """Run tests of a file in a process of its own."""
    options = ('-m', 'pytest', '-q', '-p', 'no:cacheprovider')
    return subprocess.run(
        [sys.executable, *options, file, '-k', names],
        env={**os.environ, **instructions},
        capture_output=True,
        text=True,
        check=False,
    )
