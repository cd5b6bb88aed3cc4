"""Gates of a tiny detector learn from a video."""

import csv
import json

import numpy as np
import pytest
import torch

from mmskip.apis import init_model, load_config
from mmskip.apis.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_OK,
    run_tool,
)
from mmskip.apis.tuning import save_state
from mmskip.evaluation import norm_gates
from tests.apis.fakes import noise_frames, write_video

pytest.importorskip('mmdet')

FAST = ('--segment', '4', '--frames', '2', '--held', '0.3', '--rounds')


@pytest.fixture
def video(tmp_path):
    """A square that moves over a picture that stays."""
    (still,) = noise_frames(1, (128, 96))
    frames = []
    for index in range(14):
        frame = still.copy()
        frame[20:50, 5 * index : 5 * index + 30] = 255
        frames.append(frame)
    return write_video(tmp_path / 'square.avi', frames)


@pytest.fixture
def config(setup, tmp_path):
    path = tmp_path / 'skip.py'
    path.write_text(
        f'_base_ = {str(setup.config)!r}\n'
        "gate = dict(type='mmskip.OutputNormGate', threshold=0.05,"
        ' relative=True)\n'
        'model = dict(conversions=[dict(type="mmskip.SkipConversion",'
        " gate=gate, memory='accumulated')])\n"
    )
    return path


@pytest.fixture
def tune(load_tool, setup, config, video, tmp_path):
    def run(*options, config=config, source=video, main=None):
        main = main or load_tool('tune').main
        argv = [config, setup.checkpoint, source, '--out', tmp_path / 'out']
        argv = [str(part) for part in (*argv, *FAST, *options)]
        return run_tool(main, 'tune', argv)

    return run


def thresholds(path, checkpoint):
    model = init_model(load_config(path), checkpoint)
    return {name: g.threshold for name, g in norm_gates(model).items()}


def test_the_written_config_has_what_was_learned(tune, setup, tmp_path):
    assert tune('2', '--macs', '0.5', '--rate', '0.2') == EXIT_OK
    out = tmp_path / 'out'
    report = json.loads((out / 'tune.json').read_text())
    found = thresholds(out / 'skip_tuned.py', setup.checkpoint)
    assert found == report['thresholds']
    assert len(set(found.values())) > 1
    first, *_, last = [row['gates'] for row in report['held_out']]
    assert (first, last) == ('as they were', 'tuned')
    assert all(0 < row['share'] < 1 for row in report['held_out'])
    assert {row['frames'] for row in report['held_out']} == {4}
    steps = list(csv.DictReader((out / 'tune.csv').open()))
    assert len(steps) == 2 * 2
    assert (out / 'tune.png').stat().st_size


def test_without_a_round_the_gates_stay_as_they_are(tune, setup, tmp_path):
    assert tune('0', '--macs', '0.5') == EXIT_OK
    found = thresholds(tmp_path / 'out/skip_tuned.py', setup.checkpoint)
    assert set(found.values()) == {0.05}


def test_gates_that_get_kernels_begin_as_those_without(tune, tmp_path):
    assert tune('0', '--macs', '0.5', '--gate', 'gumbel') == EXIT_OK
    out = tmp_path / 'out'
    model = init_model(
        load_config(out / 'skip_tuned.py'), str(out / 'skip_tuned.pth')
    )
    gates = norm_gates(model)
    assert {type(gate).__name__ for gate in gates.values()} == {
        'GumbelNormGate'
    }
    assert all((g.log_kernel == 0).all() for g in gates.values())
    rows = json.loads((out / 'tune.json').read_text())['held_out']
    assert rows[0]['agreement'] == rows[-1]['agreement']
    # Their kernels cost more.
    assert rows[0]['share'] < rows[-1]['share']


def test_kernels_that_learned_are_written_beside_the_config(
    tune, tmp_path, load_tool
):
    options = ('2', '--macs', '0.7', '--gate', 'gumbel', '--rate', '0.2')
    assert tune(*options) == EXIT_OK
    out = tmp_path / 'out'
    config, checkpoint = out / 'skip_tuned.py', str(out / 'skip_tuned.pth')
    gates = norm_gates(init_model(load_config(config), checkpoint))
    assert any((g.log_kernel != 0).any() for g in gates.values())
    first = {name: gate.threshold for name, gate in gates.items()}
    report = json.loads((out / 'tune.json').read_text())
    assert first == report['thresholds']

    # They go on from there.
    tool = load_tool('tune')
    again = [str(config), checkpoint, report['videos'][0], *FAST, '0']
    again += ['--macs', '0.5', '--out', str(tmp_path / 'again')]
    assert run_tool(tool.main, 'tune', again) == EXIT_OK
    saved = torch.load(tmp_path / 'again/skip_tuned_tuned.pth')['state_dict']
    for name, gate in gates.items():
        assert torch.equal(saved[f'{name}.gate.log_kernel'], gate.log_kernel)


def test_another_norm_may_take_the_place_of_that_of_the_config(
    tune, setup, tmp_path
):
    assert tune('1', '--macs', '0.5', '--gate', 'input-norm') == EXIT_OK
    config = tmp_path / 'out/skip_tuned.py'
    gates = norm_gates(init_model(load_config(config), setup.checkpoint))
    assert {gate.kind for gate in gates.values()} == {'input_norm'}


def test_a_run_goes_on_after_what_it_has(
    tune, tmp_path, capsys, load_tool, monkeypatch
):
    arguments = ('2', '--macs', '0.5', '--rate', '0.2')
    assert tune(*arguments) == EXIT_OK
    whole = json.loads((tmp_path / 'out/tune.json').read_text())
    (tmp_path / 'out/tune.pth').unlink()

    tool = load_tool('tune')

    def save_and_end(path, state):
        save_state(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, 'save_state', save_and_end)
    assert tune(*arguments, main=tool.main) == EXIT_INTERRUPTED
    assert tune(*arguments, '--resume') == EXIT_OK
    assert 'goes on after 1 of 2 rounds' in capsys.readouterr().out
    resumed = json.loads((tmp_path / 'out/tune.json').read_text())
    assert resumed['thresholds'] == whole['thresholds']


def test_a_run_of_another_video_is_not_gone_on_with(
    tune, tmp_path, capsys, video
):
    assert tune('1', '--macs', '0.5') == EXIT_OK
    other = video.rename(tmp_path / 'other.avi')
    options = ('2', '--macs', '0.5', '--resume')
    assert tune(*options, source=other) == EXIT_MISTAKE
    assert 'other.avi' in capsys.readouterr().err


def test_a_stock_config_gets_conversions(tune, setup, tmp_path):
    stock = tmp_path / 'stock.py'
    stock.write_text(
        f'_base_ = {str(setup.config)!r}\n'
        "model = dict(_delete_=True, type='RetinaNet', "
        '**{k: v for k, v in _base_.model.items() '
        "if k not in ('type', 'arch', 'conversions')})\n"
    )
    assert tune('1', '--max-error', '0.2', config=stock) == EXIT_OK
    written = load_config(tmp_path / 'out/stock_tuned.py')
    assert written.model.type == 'mmskip.ConvertedModel'
    assert written.model.arch == 'RetinaNet'
    assert thresholds(tmp_path / 'out/stock_tuned.py', setup.checkpoint)


def test_layers_that_learned_are_written_beside_it(tune, tmp_path):
    options = ('1', '--macs', '0.5', '--layer-rate', '1e-4')
    assert tune(*options) == EXIT_OK
    out = tmp_path / 'out'
    assert thresholds(out / 'skip_tuned.py', str(out / 'skip_tuned.pth'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('1', '--macs', '1.5'), 'a share of the MACs in (0, 1), got 1.5'),
        (('1', '--macs', '0.001'), 'which the gates and the layers'),
        (('1', '--macs', '0.5', '--segment', '40'), 'take a longer video'),
        (('1', '--macs', '0.5', '--segment', '5'), 'a multiple of --frames 2'),
    ],
)
def test_mistakes_are_told(tune, capsys, options, message):
    assert tune(*options) == EXIT_MISTAKE
    text = ' '.join(capsys.readouterr().err.split())
    assert message in text
    assert 'Traceback' not in text


def test_a_video_that_is_none_is_told(tune, capsys, tmp_path):
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(np.arange(99, dtype=np.uint8).tobytes())
    assert tune('1', '--macs', '0.5', source=broken) == EXIT_MISTAKE
    assert 'broken.mp4' in capsys.readouterr().err


RECOGNIZER = """
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
default_scope = 'mmaction'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    backbone=dict(type='mmskip.NarrowResNet', depth=18, base_channels=8),
    cls_head=dict(
        type='TSNHead',
        num_classes=5,
        in_channels=64,
        init_std=1.0,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor', mean=[127.5], std=[64.0]
    ),
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(
                type='mmskip.OutputNormGate', threshold=0.05, relative=True
            ),
            memory='accumulated',
        )
    ],
)
pipeline = [
    dict(type='DecordInit'),
    dict(
        type='SampleFrames',
        clip_len=1,
        frame_interval=1,
        num_clips=FRAMES,
        test_mode=True,
    ),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(48, 32), keep_ratio=False),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
test_dataloader = dict(
    batch_size=1,
    dataset=dict(type='VideoDataset', ann_file='none', pipeline=pipeline),
)
custom_hooks = [dict(type='mmskip.VideoHook', num_frames=4, inference='clip')]
"""


@pytest.fixture
def recognizer(tmp_path):
    """A converted TSN, and how to write its config for other clips."""
    pytest.importorskip('mmaction')

    def write(frames=4, hooks=None):
        path = tmp_path / 'tsn.py'
        text = RECOGNIZER.replace('FRAMES', str(frames))
        path.write_text(text if hooks is None else f'{text}\n{hooks}\n')
        return path

    torch.manual_seed(0)
    model = init_model(load_config(write()))
    checkpoint = tmp_path / 'tsn.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return write, checkpoint


@pytest.fixture
def tune_recognizer(load_tool, recognizer, video, tmp_path):
    write, checkpoint = recognizer

    def run(*options, **changes):
        argv = [write(**changes), checkpoint, video, *options]
        argv += ['--segment', '7', '--frames', '2', '--held', '0.5']
        argv = [str(part) for part in (*argv, '--out', tmp_path / 'out')]
        return run_tool(load_tool('tune').main, 'tune', argv)

    return run


def test_a_recognizer_learns_from_clips(tune_recognizer, recognizer, tmp_path):
    options = ('--macs', '0.7', '--rounds', '2', '--rate', '0.2')
    assert tune_recognizer(*options) == EXIT_OK
    out = tmp_path / 'out'
    report = json.loads((out / 'tune.json').read_text())
    assert len(set(report['thresholds'].values())) > 1
    found = thresholds(out / 'tsn_tuned.py', str(recognizer[1]))
    assert found == report['thresholds']
    first, *_, last = report['held_out']
    # Of 14 frames two segments of 7: one to learn on, one to check.
    assert first['frames'] == last['frames'] == 4
    assert first['measure'] == 'top-1'
    assert last['agreement'] in (0.0, 100.0)
    assert 0.25 < last['share'] < 0.8
    steps = list(csv.DictReader((out / 'tune.csv').open()))
    assert len(steps) == 2


def test_gates_of_a_recognizer_stay_without_a_round(
    tune_recognizer, recognizer, tmp_path
):
    assert tune_recognizer('--macs', '0.6', '--rounds', '0') == EXIT_OK
    found = thresholds(tmp_path / 'out/tsn_tuned.py', str(recognizer[1]))
    assert set(found.values()) == {0.05}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(hooks='custom_hooks = []'), "num_frames=T, inference='clip'"),
        (dict(frames=3), 'a test pipeline that gives 4 frames'),
    ],
)
def test_a_recognizer_has_to_take_clips(
    tune_recognizer, capsys, changes, message
):
    options = ('--macs', '0.6', '--rounds', '0')
    assert tune_recognizer(*options, **changes) == EXIT_MISTAKE
    assert message in ' '.join(capsys.readouterr().err.split())


def test_a_clip_begins_with_a_whole_frame(tune_recognizer, capsys):
    options = ('--macs', '0.24', '--rounds', '1')
    assert tune_recognizer(*options) == EXIT_MISTAKE
    text = ' '.join(capsys.readouterr().err.split())
    assert 'and the first frame of each clip take, got 24.0%' in text


def test_a_recognizer_needs_two_clips(tune_recognizer, capsys):
    options = ('--macs', '0.6', '--rounds', '0', '--most', '8')
    assert tune_recognizer(*options) == EXIT_MISTAKE
    assert 'two clips or more' in capsys.readouterr().err
