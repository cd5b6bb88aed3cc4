"""Gates of a tiny detector learn from a video."""

import csv
import json

import numpy as np
import pytest

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
