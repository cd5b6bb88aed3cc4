"""Models of the hosts equal themselves in a stream with open gates."""

import pytest
import torch
from mmengine.config import Config

from mmskip.apis import ZooModel, check_model
from mmskip.apis import zoo as checking
from mmskip.apis.zoo_models import Frames
from mmskip.native import library as native
from tests.apis.zoo.models import MODELS, detector, resnet

TEM = dict(
    type='TEM',
    temporal_dim=10,
    boundary_ratio=0.1,
    tem_feat_dim=4,
    tem_hidden_dim=4,
    tem_match_threshold=0.5,
)
MODES = ('stream', 'plan', 'fast')
BUILT = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


@pytest.fixture
def check(tmp_path):
    """Check a model that a config file describes."""

    def write_and_check(host, model, modes=MODES):
        pytest.importorskip(f'{host}.models')
        path = tmp_path / 'model.py'
        Config(dict(model=model)).dump(path)
        entry = ZooModel(host, (str(path),))
        return check_model(entry, modes)

    return write_and_check


@BUILT
@pytest.mark.parametrize('name', MODELS)
def test_a_stream_equals_the_dense_model(name, check):
    rows = check(*MODELS[name])

    assert [row.status for row in rows] == ['equal'] * len(MODES), rows
    assert all(row.error <= 1e-5 for row in rows)
    assert rows[0].planned == 0
    assert rows[0].layers > 0
    if name != 'nonlocal':  # of clips
        assert rows[1].planned > 0


def test_an_output_that_is_off_is_found(check, monkeypatch):
    def leave_off(model):
        conv = model.backbone.conv1
        conv.register_forward_hook(lambda module, args, y: y * 1.001)

    monkeypatch.setitem(checking.MODES, 'fast', leave_off)
    (row,) = check('mmdet', detector(resnet()), ['fast'])

    assert row.status == 'differs'
    assert row.error > checking.TOLERANCE
    assert 'backbone' in row.reason


@pytest.mark.parametrize(('gain', 'is_steady'), [(1.0, True), (1e6, False)])
def test_a_model_that_float32_does_not_determine_is_told(gain, is_steady):
    class Wave:
        def record(self, image, samples):
            return {'': [(gain * image).sin()]}

    frames = Frames([torch.rand(1, 3, 8, 8)], [])

    noise = checking._own_noise(Wave(), frames)

    assert (noise <= checking.TOLERANCE) == is_steady


def test_a_model_that_cannot_run_says_why(check):
    model = detector(resnet(), in_channels=(64, 99))

    (row,) = check('mmdet', model, ['stream'])

    assert row.status == 'does not run densely'
    assert '99' in row.reason
    assert '\n' not in row.reason


def test_a_model_of_sequences_alone_is_refused(check):
    (row,) = check('mmaction', TEM, ['stream'])

    assert row.status == 'refused'
    assert 'can convert none of' in row.reason
