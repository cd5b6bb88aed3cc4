"""What the tools say of learned gates that cannot be used."""

import logging

import pytest
import torch

from mmskip.apis import init_model, load_config
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from tests.tools.learned import write_config

GATE = 'model.conversions.0.gate'


@pytest.fixture
def config(setup):
    return write_config(setup)


@pytest.fixture(scope='module')
def checkpoints(setup, tmp_path_factory):
    """Files of weights: of other layers' gates, without gates, ..."""
    folder = tmp_path_factory.mktemp('checkpoints')
    path = write_config(setup, path=folder / 'learned.py')
    weights = init_model(load_config(path)).state_dict()
    layer = 'backbone.conv1.gate'
    files = dict(
        good=weights,
        fewer={k: v for k, v in weights.items() if layer not in k},
        shape={**weights, f'{layer}.weight': torch.zeros(1, 3, 3, 3)},
        dense={k: v for k, v in weights.items() if '.gate.' not in k},
    )
    for name, saved in files.items():
        torch.save(dict(state_dict=saved), folder / f'{name}.pth')
    return folder


@pytest.fixture
def fail(load_tool, capsys):
    """Run a tool that fails; returns the only line it says."""

    def call(name, *argv):
        tool = load_tool(name)
        capsys.readouterr()
        code = run_tool(tool.main, name, [str(a) for a in argv])
        err = capsys.readouterr().err
        assert code == EXIT_MISTAKE
        assert 'Traceback' not in err
        (line,) = [x for x in err.splitlines() if x.startswith(f'{name}: ')]
        return line

    return call


OF_OTHERS = dict(
    fewer='1 (backbone.conv1, ...) of the model are not in it',
    shape='backbone.conv1.gate.weight of shape (1, 3, 7, 7)',
)


@pytest.mark.parametrize(
    ('how', 'file'),
    [
        ('test', 'fewer'),
        ('test', 'shape'),
        ('load_from', 'fewer'),
        ('resume', 'shape'),
    ],
)
def test_gates_of_another_conversion_are_refused(
    config, checkpoints, fail, how, file
):
    path = checkpoints / f'{file}.pth'
    if how == 'test':
        line = fail('test', config, path)
    elif how == 'resume':
        line = fail('train', config, '--resume', path)
    else:
        line = fail('train', config, '--cfg-options', f'load_from={path}')
    assert OF_OTHERS[file] in line
    assert str(path) in line
    assert 'include and exclude of the training' in line


@pytest.mark.parametrize('convert', [True, False])
def test_a_model_without_learned_gates_does_not_drop_them(
    setup, checkpoints, fail, convert
):
    cfg = load_config(setup.config)
    if not convert:
        cfg.model.type = cfg.model.pop('arch')
        cfg.model.pop('conversions')
        cfg.pop('custom_hooks')
    cfg.dump('other.py')

    line = fail('test', 'other.py', checkpoints / 'good.pth')

    assert 'none of the model are not in it' in line
    assert '(backbone.conv1, ...) in it are not in the model' in line


def test_dense_weights_begin_a_training_but_are_not_resumed(
    config, checkpoints, fail, load_tool
):
    path = checkpoints / 'dense.pth'
    argv = [config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1']
    assert load_tool('train').main([*argv, f'load_from={path}']) == EXIT_OK

    line = fail('train', config, '--resume', path)

    assert 'load_from in the config, without --resume' in line


@pytest.mark.parametrize(('file', 'warns'), [('dense', True), ('good', False)])
def test_testing_untrained_gates_is_called_out(
    config, checkpoints, load_tool, monkeypatch, file, warns
):
    said = []
    monkeypatch.setattr(
        'mmskip.engine.video_hook.print_log', lambda *args: said.append(args)
    )
    path = str(checkpoints / f'{file}.pth')

    assert load_tool('test').main([config, path]) == EXIT_OK

    warned = [text for text, _, level in said if level == logging.WARNING]
    assert len(warned) == warns
    assert all('untrained, all open' in text for text in warned)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['model.efficiency_loss.beta=-1'], 'expected beta >= 0, got -1'),
        (
            [f'{GATE}.type=mmskip.NoGate'],
            "'mmskip.NoGate' is not in the mmskip::model",
        ),
        ([f'{GATE}.gate_input=nothing'], "got 'nothing'"),
        (
            ['custom_hooks.0.num_frames=3'],
            'expected a batch of a multiple of num_frames=3 frames, got 2',
        ),
        (
            ['train_dataloader.dataset.num_frames=9'],
            'expected videos of at least 9 frames',
        ),
        (['custom_hooks.0.num_frames=1'], 'clips of at least 2 frames'),
        (['optim_wrapper.optimizer.lr=1e30'], 'expected finite losses, got '),
        (
            ['train_dataloader.dataset.dataset.pipeline.4.type=SpoilOfTests'],
            'expected finite pixels, got 1 NaN or infinite values in ',
        ),
    ],
)
def test_a_mistake_is_one_line(config, fail, options, text):
    line = fail('train', config, '--no-validate', '--cfg-options', *options)

    assert text in line


def test_a_spoilt_frame_does_not_enter_a_stream(setup, fail):
    options = [
        'test_dataloader.dataset.pipeline.2.type=SpoilOfTests',
        'test_dataloader.dataset.pipeline.2.scale=None',
        'test_dataloader.dataset.pipeline.2.keep_ratio=None',
    ]
    cfg = load_config(setup.config)
    cfg.custom_imports.imports.append('tests.tools.learned')
    cfg.dump('other.py')

    line = fail(
        'test', 'other.py', setup.checkpoint, '--cfg-options', *options
    )

    assert 'expected finite pixels, got 1 NaN' in line
    assert '.jpg' in line
