"""Thresholds per layer, on a tiny detector."""

import csv
import json

import pytest

from mmskip.apis import init_model, load_config
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from mmskip.evaluation import norm_gates
from tests.apis.fakes import noise_frames, write_video

pytest.importorskip('mmdet')

FAST = ('--groups', '3', '--rounds', '1', '--frames', '3', '--clips', '1')


@pytest.fixture
def calibrate(load_tool, setup, tmp_path):
    def run(*options, config=setup.config):
        arguments = [config, setup.checkpoint, '--out', tmp_path / 'out']
        arguments = map(str, [*arguments, *FAST, *options])
        return run_tool(
            load_tool('calibrate').main, 'calibrate', list(arguments)
        )

    return run


def test_the_written_config_gives_every_layer_its_threshold(
    calibrate, setup, tmp_path
):
    options = ('--max-error', '0.02', '--split', 'test', '--check', '1')
    assert calibrate(*options) == EXIT_OK
    out = tmp_path / 'out'
    report = json.loads((out / 'calibration.json').read_text())
    chosen, checked = report['at_equal_error']
    assert chosen['error'] <= 0.02 * 1.001
    assert (chosen['clips'], checked['clips']) == ('chosen', 'check')
    config = load_config(out / 'tiny_calibrated.py')
    model = init_model(config, setup.checkpoint)
    gates = norm_gates(model)
    found = {name: gate.threshold for name, gate in gates.items()}
    assert found == report['thresholds']
    assert len(set(found.values())) > 1
    assert {gate.order for gate in gates.values()} == {1}
    rows = list(csv.DictReader((out / 'calibration.csv').open()))
    assert {row['method'] for row in rows} == {
        'one threshold',
        'a threshold per layer',
    }
    assert (out / 'calibration.png').stat().st_size


def test_a_video_and_a_reduction_do_as_well(calibrate, tmp_path):
    video = write_video(tmp_path / 'noise.avi', noise_frames(4))
    options = ('--reduction', '1.5', '--video', video, '--check', '0')
    assert calibrate(*options) == EXIT_OK
    report = json.loads((tmp_path / 'out/calibration.json').read_text())
    (chosen,) = report['at_equal_error']
    assert chosen['share'] <= 1 / 1.5 + 0.001


def test_other_conversions_stay(calibrate, setup, tmp_path):
    options = ('--max-error', '0.5', '--split', 'train', '--check', '0')
    config = tmp_path / 'two.py'
    config.write_text(
        f'_base_ = {str(setup.config)!r}\n'
        "gate = dict(type='mmskip.GumbelGate')\n"
        "norm = dict(type='mmskip.InputNormGate', threshold=0.1)\n"
        "skip = dict(type='mmskip.SkipConversion', memory='accumulated')\n"
        "model = dict(conversions=[dict(gate=norm, include='backbone', "
        "**skip), dict(gate=gate, include='neck', **skip)])\n"
    )
    assert calibrate(*options, config=config) == EXIT_OK
    text = load_config(tmp_path / 'out/two_calibrated.py')
    *normed, learned = text.model.conversions
    assert learned == dict(
        gate=dict(type='mmskip.GumbelGate'),
        include='neck',
        type='mmskip.SkipConversion',
        memory='accumulated',
    )
    assert {entry.gate.type for entry in normed} == {'mmskip.InputNormGate'}
    assert {entry.memory for entry in normed} == {'accumulated'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--split', 'test', '--clips', '9'), 'found 2; lower --clips'),
        (('--split', 'val'), 'expected val_dataloader'),
        (('--video', 'no.mp4'), 'video not found'),
    ],
    ids=['too-few-clips', 'no-split', 'no-video'],
)
def test_mistakes_end_with_a_message(calibrate, capsys, options, message):
    assert calibrate('--max-error', '0.1', *options) == EXIT_MISTAKE
    assert message in capsys.readouterr().err


@pytest.fixture
def accumulated(setup, tmp_path):
    """The config with a memory that int8 is for."""
    config = tmp_path / 'tiny.py'
    config.write_text(
        f'_base_ = {str(setup.config)!r}\n'
        "gate = dict(type='mmskip.InputNormGate', threshold=0.1)\n"
        "model = dict(conversions=[dict(type='mmskip.SkipConversion', "
        "memory='accumulated', gate=gate)])\n"
    )
    return config


def test_ranges_for_int8_are_learned_and_used(
    calibrate, accumulated, setup, load_tool, tmp_path
):
    video = write_video(tmp_path / 'noise.avi', noise_frames(4))
    source = ('--video', str(video), '--check', '0')
    options = ('--precision', 'int8', *source)
    assert calibrate(*options, config=accumulated) == EXIT_OK
    ranges = tmp_path / 'out' / 'int8.json'
    layers = json.loads(ranges.read_text())['layers']
    assert len(layers) > 3
    assert all(layer['step'] > 0 for layer in layers.values())
    options = ('--precision', 'int8', '--calibration', str(ranges))
    arguments = map(str, (accumulated, setup.checkpoint, video))
    results = tmp_path / 'boxes.json'
    code = run_tool(
        load_tool('stream_video').main,
        'stream_video',
        [*arguments, '--json', str(results), *options],
    )
    assert code == EXIT_OK
    assert len(json.loads(results.read_text())['frames']) == 4


def test_thresholds_are_chosen_in_int8(calibrate, accumulated, tmp_path):
    options = ('--max-error', '0.5', '--split', 'test', '--check', '0')
    options += ('--precision', 'int8')
    assert calibrate(*options, config=accumulated) == EXIT_OK
    assert {path.name for path in (tmp_path / 'out').iterdir()} >= {
        'int8.json',
        'calibration.json',
        'tiny_calibrated.py',
    }


def test_a_running_sum_is_refused_in_int8(calibrate, capsys):
    assert calibrate('--precision', 'int8', '--split', 'test') == EXIT_MISTAKE
    assert "memory='accumulated'" in capsys.readouterr().err


def test_neither_a_budget_nor_a_precision_is_refused(calibrate, capsys):
    with pytest.raises(SystemExit):
        calibrate()
    assert 'got none of them' in capsys.readouterr().err


def test_configs_without_norm_gates_are_refused(
    calibrate, setup, capsys, tmp_path
):
    config = tmp_path / 'dense.py'
    config.write_text(
        f'_base_ = {str(setup.config)!r}\n'
        "model = dict(conversions=[dict(type='mmskip.SkipConversion', "
        "gate=dict(type='mmskip.GumbelGate'))])\n"
    )
    assert calibrate('--max-error', '0.1', config=config) == EXIT_MISTAKE
    assert 'with a norm gate' in capsys.readouterr().err
