import argparse
from types import SimpleNamespace

import pytest
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from mmskip.apis import UserError
from mmskip.apis.launch import (
    WeightsCheck,
    add_common_arguments,
    build_runner,
    check_latest,
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
def test_without_a_gpu_slurm_is_refused():
    with pytest.raises(UserError, match=r'a GPU for each.*dist_train\.sh'):
        prepare_launcher(Config(), 'slurm', 0)


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


@pytest.mark.parametrize('below', ['', 'work_dir'])
def test_a_work_dir_that_cannot_be_made_is_named(tmp_path, below):
    (tmp_path / 'file').touch()
    work_dir = str(tmp_path / 'file' / below)
    with pytest.raises(UserError, match='cannot write to work directory'):
        build_runner(Config(dict(work_dir=work_dir)))


def test_a_work_dir_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('os.access', lambda path, mode: False)
    with pytest.raises(UserError, match='cannot write to work directory'):
        build_runner(Config(dict(work_dir=str(tmp_path))))


def test_weights_of_another_model_are_refused():
    runner = SimpleNamespace(model=nn.Conv2d(3, 4, 1))
    checkpoint = dict(state_dict=nn.BatchNorm2d(4).state_dict())
    checkpoint['state_dict'].pop('weight')
    checkpoint['state_dict'].pop('bias')
    with pytest.raises(UserError, match=r'no weight in w\.pth belongs'):
        WeightsCheck('w.pth').after_load_checkpoint(runner, checkpoint)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_weights_of_the_model_pass(prefix):
    model = nn.Conv2d(3, 4, 1)
    saved = {prefix + k: v for k, v in model.state_dict().items()}
    for wrapped in (model, nn.DataParallel(model)):
        WeightsCheck('w.pth').after_load_checkpoint(
            SimpleNamespace(model=wrapped), dict(state_dict=saved)
        )


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


WHOLE = dict(meta=dict(epoch=1, iter=9), message_hub={}, optimizer={})


@pytest.mark.parametrize(
    ('content', 'missing'),
    [
        ({}, 'meta, message_hub, optimizer, meta.epoch, meta.iter'),
        (without(WHOLE, 'optimizer'), 'optimizer'),
        (WHOLE | dict(meta=dict(epoch=1)), r'meta\.iter'),
        (WHOLE, None),
    ],
)
def test_only_a_training_is_resumed(content, missing):
    model = nn.Conv2d(3, 4, 1)
    runner = SimpleNamespace(model=model)
    content = dict(state_dict=model.state_dict(), **content)
    WeightsCheck('w.pth', tuning=True).after_load_checkpoint(runner, content)
    check = WeightsCheck('w.pth', tuning=True, resume=True)
    if missing is None:
        check.after_load_checkpoint(runner, content)
        return
    with pytest.raises(UserError, match=f'in w.pth, .* without {missing};'):
        check.after_load_checkpoint(runner, content)


def test_a_training_is_not_resumed_from_half_of_its_weights():
    model = nn.Conv2d(3, 4, 1)
    content = dict(WHOLE, state_dict=dict(weight=model.weight))
    runner = SimpleNamespace(model=model)
    WeightsCheck('w.pth', tuning=True).after_load_checkpoint(runner, content)
    check = WeightsCheck('w.pth', tuning=True, resume=True)
    with pytest.raises(UserError, match='1 are not in the file'):
        check.after_load_checkpoint(runner, content)


@pytest.mark.parametrize('latest', ['', '\n', 'gone.pth'])
def test_a_folder_without_its_latest_checkpoint_is_named(tmp_path, latest):
    cfg = Config(dict(work_dir=str(tmp_path), resume=True))
    check_latest(cfg)
    file = tmp_path / 'last_checkpoint'
    file.write_text(latest)
    with pytest.raises(UserError, match=f'^{file}: .*--resume FILE'):
        check_latest(cfg)
    check_latest(Config(dict(work_dir=str(tmp_path))))
    file.write_text(str(file))
    check_latest(cfg)
