"""A model learns which channels it needs, by the stock loops."""

import json

import torch

from mmskip.apis.errors import EXIT_OK

CONFIG = """
_base_ = '{base}'
model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False),
    conversions=[
        dict(type='mmskip.L0Conversion', start=0.0, exclude='bbox_head')
    ],
    efficiency_loss=dict(type='mmskip.L0Loss', weight=1e4),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.gate.': dict(lr_mult=1e4)})
)
custom_hooks = [*_base_.custom_hooks, dict(type='mmskip.BatchNormHook')]
"""


def test_channels_close_in_training_and_are_left_out_in_tests(
    setup, load_tool, tmp_path
):
    config = tmp_path / 'l0.py'
    config.write_text(CONFIG.replace('{base}', str(setup.config)))
    options = ['--cfg-options', f'load_from={setup.checkpoint}']
    argv = [str(config), '--no-validate', '--work-dir', str(tmp_path)]
    assert load_tool('train').main([*argv, *options]) == EXIT_OK
    checkpoint = tmp_path / 'iter_2.pth'
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    assert (saved['backbone.conv1.gate.log_alpha'] < 0).all()
    out = tmp_path / 'metrics.json'

    argv = [str(config), str(checkpoint), '--out', str(out)]
    assert load_tool('test').main(argv) == EXIT_OK

    metrics = json.loads(out.read_text())
    assert metrics['cost/reduction'] > 1.1
