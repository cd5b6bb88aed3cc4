"""A training of SoF-Net that was killed ends like one that was not."""

from pathlib import Path

import pytest

from mmskip.toy import make_toy_activitynet
from tests.tools.test_train_resume import state, train

pytest.importorskip('mmaction')

CONFIGS = Path(__file__).parents[2] / 'configs/toy'
# Three epochs of two batches; the policies join in the second.
CONFIG = """
_base_ = '{base}'
custom_imports = dict(
    imports=['mmskip', 'tests.tools.learned'], allow_failed_imports=False
)
train_cfg = dict(max_epochs=3)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(data_root='{data}', metainfo=dict(classes='{classes}')),
)
custom_hooks = [
    *_base_.custom_hooks[:-2],
    dict(type='mmskip.WarmUpHook', epochs=1),
    dict(type='mmskip.TemperatureHook', initial=5.0, decay=1.0, begin=1),
    dict(type='DieOfTests'),
]
"""


@pytest.fixture
def config(tmp_path):
    root = make_toy_activitynet(
        tmp_path / 'toy',
        train_videos=4,
        test_videos=0,
        frames=16,
        size=(64, 64),
    )
    base = CONFIGS / 'sof_r18-w16_16f-16e_toy-activitynet.py'
    path = tmp_path / 'sof.py'
    path.write_text(
        CONFIG.format(base=base, data=root, classes=root / 'classes.txt')
    )
    return str(path)


@pytest.mark.usefixtures('one_thread')
def test_both_stages_survive(config, load_tool, train_until_killed, tmp_path):
    train(load_tool, config, tmp_path / 'whole', ['load_from=None'])
    broken = tmp_path / 'broken'
    train_until_killed(2, config, broken, ['load_from=None'])
    assert [p.name for p in broken.glob('*.pth')] == ['epoch_1.pth']
    train(load_tool, config, broken, ['load_from=None'], '--resume')

    expected = state(tmp_path / 'whole' / 'epoch_3.pth')
    found = state(broken / 'epoch_3.pth')
    assert expected.keys() == found.keys()
    policies = [key for key in found if '.policies.' in key]
    start = state(tmp_path / 'whole' / 'epoch_1.pth')
    assert any(not found[key].equal(start[key]) for key in policies)
    different = [k for k, v in expected.items() if not v.equal(found[k])]
    assert different == []
