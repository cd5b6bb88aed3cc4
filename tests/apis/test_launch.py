import argparse

import pytest
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device

from mmskip.apis import UserError
from mmskip.apis.launch import (
    add_common_arguments,
    close_launcher,
    enable_visualization,
    prepare_launcher,
)


def arguments(*argv):
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    return parser.parse_args(argv)


def test_the_options_of_the_stock_tools_are_understood():
    args = arguments(
        '--work-dir', 'w', '--launcher', 'slurm', '--local-rank', '1',
        '--cfg-options', 'a.b=1', 'c=[1,2]',
    )  # fmt: skip
    assert (args.work_dir, args.launcher, args.local_rank) == ('w', 'slurm', 1)
    assert args.cfg_options == {'a.b': 1, 'c': [1, 2]}


def test_nothing_is_painted_unasked():
    cfg = Config()
    enable_visualization(cfg, 'mmdet', arguments())
    assert not cfg


def test_painting_for_detectors():
    cfg = Config(dict(default_hooks=dict(visualization=dict())))
    args = arguments('--show', '--wait-time', '3', '--show-dir', 'd')
    enable_visualization(cfg, 'mmdet', args)
    assert cfg.default_hooks.visualization == dict(
        draw=True, show=True, wait_time=3, test_out_dir='d'
    )


def test_painting_for_poses():
    cfg = Config(dict(default_hooks=dict(visualization=dict())))
    args = arguments('--show-dir', 'd', '--interval', '5')
    enable_visualization(cfg, 'mmpose', args)
    assert cfg.default_hooks.visualization == dict(
        enable=True, show=False, out_dir='d', interval=5
    )


def test_painting_without_a_hook_is_refused():
    with pytest.raises(UserError, match=r'default_hooks\.visualization'):
        enable_visualization(Config(), 'mmdet', arguments('--show'))


def test_the_pytorch_launcher_needs_torchrun(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setenv('WORLD_SIZE', '1')
    with pytest.raises(UserError, match=r'RANK are not set.*dist_train\.sh'):
        prepare_launcher(Config(), 'pytorch', 0)


@pytest.mark.skipif(get_device() != 'cpu', reason='a device is there')
def test_without_a_gpu_gloo_takes_the_place_of_nccl(monkeypatch, capsys):
    for name, value in dict(
        LOCAL_RANK='0', RANK='0', WORLD_SIZE='1',
        MASTER_ADDR='127.0.0.1', MASTER_PORT='0',
    ).items():  # fmt: skip
        monkeypatch.setenv(name, value)
    dist_cfg = dict(backend='nccl')
    cfg = Config(dict(env_cfg=dict(dist_cfg=dist_cfg)))
    try:
        prepare_launcher(cfg, 'pytorch', 0)
        assert torch_dist.get_backend() == 'gloo'
    finally:
        close_launcher()
    assert not torch_dist.is_initialized()
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'
    assert cfg.model_wrapper_cfg.device_ids is None
    assert 'gloo instead of nccl' in capsys.readouterr().out
