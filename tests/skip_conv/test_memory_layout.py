"""What a converted layer returns lies in memory as torch's would."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.core import is_channels_last
from mmskip.native import library as native
from mmskip.plan import propagate_changes

BUILT = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
GATE = dict(type='OutputNormGate', threshold=0.0)
LAYOUTS = [torch.contiguous_format, torch.channels_last]


class Views(nn.Module):
    """Reads what a convolution returned as contiguous memory."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x).view(len(x), -1)


class Planes(nn.Module):
    """Returns outputs of convolutions, and what looks into one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        x = self.first(x).relu()
        y = self.second(x)
        return x, y, y.flatten(2), [y.permute(0, 2, 3, 1)]


def video_of(layout):
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=layout)
    later = x.clone()
    later[:, :, 2:4, 3:5] += 1
    return [x, later, x]


def converted(net):
    conversion = mmskip.SkipConversion(gate=GATE, memory='accumulated')
    mmskip.convert(net.eval(), conversion)
    return net


@torch.no_grad()
def run(net, video):
    with mmskip.stream(net):
        return [net(x) for x in video]


def layouts(outputs):
    """Of each frame and tensor: contiguous, channels last, or neither."""
    return [
        [
            (t.is_contiguous(), t.dim() == 4 and is_channels_last(t))
            for t in (*frame[:3], *frame[3])
        ]
        for frame in outputs
    ]


@pytest.mark.parametrize(
    'backend', [pytest.param('native', marks=BUILT), 'reference']
)
@pytest.mark.parametrize('kernels', LAYOUTS)
@pytest.mark.parametrize('images', LAYOUTS)
def test_outputs_of_a_stream_lie_in_memory_as_those_of_the_dense_model(
    images, kernels, backend, monkeypatch
):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    net = Planes().to(memory_format=kernels).eval()
    video = video_of(images)
    with torch.no_grad():
        expected = [net(x) for x in video]

    found = run(converted(net), video)

    assert layouts(found) == layouts(expected)


@BUILT
@pytest.mark.parametrize('images', LAYOUTS)
def test_so_do_those_of_a_plan(images):
    net = Planes().eval()
    video = video_of(images)
    with torch.no_grad():
        expected = [net(x) for x in video]
    converted(net)
    propagate_changes(net)

    assert layouts(run(net, video)) == layouts(expected)


@pytest.mark.parametrize('num_frames', [1, 3])
def test_outputs_of_a_clip_can_be_viewed(num_frames):
    net = converted(Views())

    with torch.no_grad(), mmskip.clip(net, num_frames):
        assert net(torch.randn(3, 3, 8, 8)).shape == (3, 256)


@pytest.mark.parametrize('num_frames', [1, 3])
def test_outputs_of_a_stream_can_be_viewed(num_frames):
    net, x = converted(Views()), torch.randn(3, 3, 8, 8)

    with torch.no_grad(), mmskip.stream(net, num_frames=num_frames):
        net(x)
        assert net(x + 1).shape == (3, 256)


class Grouped(nn.Module):
    """Normalises groups whose means are far larger than what varies."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.end = nn.Conv2d(8, 4, 1)
        nn.init.constant_(self.conv.bias, 30.0)

    def forward(self, x):
        return self.end(self.norm(self.conv(x)))


@BUILT
def test_a_plan_normalises_groups_as_exactly_as_the_dense_model():
    """Torch takes their variance another way in an image channels last."""
    torch.manual_seed(0)
    net, video = Grouped().eval(), video_of(torch.contiguous_format)
    with torch.no_grad():
        expected = [net(x) for x in video]
    propagate_changes(converted(net))

    for found, dense in zip(run(net, video), expected, strict=True):
        assert (found - dense).abs().max() <= 1e-5 * dense.abs().max()


KERNELS = {'plane': (1, 3, 3), 'time': (3, 1, 1), 'both': (3, 3, 3)}


class ViewedClips(nn.Module):
    """Reads clips as a block of non-local attention does."""

    def __init__(self, kernel):
        super().__init__()
        padding = tuple(size // 2 for size in kernel)
        self.first = nn.Conv3d(3, 4, kernel, padding=padding)
        self.second = nn.Conv3d(4, 6, kernel, padding=padding)

    def forward(self, x):
        return self.second(self.first(x)).view(len(x), -1)


@pytest.mark.parametrize('kernel', KERNELS)
def test_outputs_of_clips_can_be_viewed_in_a_stream_and_folded(kernel):
    net = ViewedClips(KERNELS[kernel]).eval()
    x = torch.randn(2, 3, 4, 5, 6)
    later = x.clone()
    later[..., 2:4, 3:5] += 1
    with torch.no_grad():
        expected = [net(frame) for frame in (x, later)]
        mmskip.fold(net)
        assert torch.allclose(net(x), expected[0], atol=1e-5)

    found = run(converted(ViewedClips(KERNELS[kernel])), (x, later))

    assert [y.shape for y in found] == [y.shape for y in expected]


@pytest.mark.parametrize('folded', [False, True])
@pytest.mark.parametrize('kernel', KERNELS)
def test_outputs_of_dynamic_convolutions_can_be_viewed(kernel, folded):
    net = ViewedClips(KERNELS[kernel]).eval()
    mmskip.convert(
        net, mmskip.DynamicConversion(search_space=2, kernels='all')
    )
    if folded:
        mmskip.fold(net)

    with torch.no_grad():
        assert net(torch.randn(2, 3, 4, 5, 6)).shape == (2, 6 * 4 * 5 * 6)
