"""EfficientDet in a plan."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmdet')

from mmskip.models.efficientdet import halve
from mmskip.native import library as native
from mmskip.plan import accelerate, fold
from mmskip.plan.steps import NativeSteps
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.twins import Twins, convert, eventful
from tests.models.efficientdet.detectors import build, tiny_config

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
#: Any change is computed: rounding does not decide about small ones.
GATE = dict(type='InputNormGate', threshold=0.0)


class Network(nn.Module):
    """A detector up to its raw outputs."""

    def __init__(self):
        super().__init__()
        self.detector = build(tiny_config())

    def forward(self, image):
        return self.detector(image, mode='tensor')


@pytest.mark.parametrize('size', [(128, 128), (64, 72)])
@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_the_whole_network_is_one_plan_of_the_library(memory, size):
    net = convert(Network(), GATE, memory)
    fold(net)
    both = Twins(net, tolerance=1e-4)

    both.watch(eventful(1, 3, *size)[:5])

    (plan,) = both.plans
    if size == (128, 128):  # a level of 5 is not enlarged to 9 there
        assert [type(step) for step in plan.steps] == [NativeSteps]
    both.count(torch.rand(1, 3, *size))


def test_fusions_keep_their_batch_norms_in_their_convolutions():
    net = Network().eval()
    node = net.detector.neck.layers[0].down[0]
    features = [torch.rand(1, 40, 8, 8), torch.rand(1, 16, 8, 8)]
    expected = node(features)

    accelerate(net)

    assert isinstance(node.bn, nn.Identity)
    assert isinstance(node.lateral.bn, nn.Identity)
    torch.testing.assert_close(node(features), expected)


@pytest.mark.parametrize('size', [(8, 8), (9, 12), (1, 7)])
def test_pooling_can_be_traced_for_an_exporter(size):
    x = torch.rand(1, 2, *size)

    traced = torch.jit.trace(halve, x)

    assert traced(x).equal(halve(x))
    assert 'remainder' not in str(traced.graph)
