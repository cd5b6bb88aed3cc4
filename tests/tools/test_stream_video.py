import json
import multiprocessing
import os
import signal
import time

import cv2
import pytest
import torch

from mmskip.apis import UserError, load_config
from mmskip.apis.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_OK,
    run_tool,
)
from mmskip.native import active_backend
from tests.apis.fakes import (
    damage_frame,
    noise_frames,
    read_video,
    static_frames,
    write_video,
)
from tests.video.stalling import stalling_camera

SIZE = (128, 96)


@pytest.fixture
def run(setup, load_tool, capsys):
    """Run the tool; returns the exit code, stdout and stderr."""
    tool = load_tool('stream_video')

    def call(source, *options):
        argv = [setup.config, setup.checkpoint, source, *options]
        code = run_tool(tool.main, 'stream_video', [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.tool = tool
    return call


def test_a_static_video_costs_less_than_one_of_noise(run):
    reductions = {}
    for name, frames in dict(
        static=static_frames(6, SIZE), noise=noise_frames(6, SIZE)
    ).items():
        path = write_video(f'{name}.avi', frames)
        code, out, _ = run(path, '--out', 'o.mp4', '--json', f'{name}.json')
        assert code == EXIT_OK
        assert 'GMAC/frame' in out
        assert len(read_video('o.mp4')) == 6
        with open(f'{name}.json') as file:
            log = json.load(file)
        assert len(log['frames']) == log['summary']['frames'] == 6
        assert log['summary']['backend'] == active_backend()
        reductions[name] = log['summary']['reduction']
    assert reductions['static'] > 3 > reductions['noise'] * 2


def test_dense_costs_what_dense_costs(run):
    path = write_video('a.avi', static_frames(3, SIZE))
    code, _, _ = run(path, '--dense', '--json', 'a.json')
    assert code == EXIT_OK
    with open('a.json') as file:
        summary = json.load(file)['summary']
    assert summary['reduction'] == 1
    assert summary['backend'] == 'dense'


def test_a_model_without_converted_layers_runs_densely_and_says_so(run, setup):
    cfg = load_config(setup.config)
    cfg.model.type = cfg.model.pop('arch')
    cfg.model.pop('conversions')
    cfg.dump('dense.py')
    write_video('a.avi', static_frames(2, SIZE))
    argv = ['dense.py', str(setup.checkpoint), 'a.avi', '--out', 'o.avi']
    assert run.tool.main(argv) == EXIT_OK
    code, out, _ = run('a.avi', '--dense')
    assert code == EXIT_OK
    assert 'no layer of this model is converted: it runs densely' in out
    assert out.count('1.00x') == 2
    assert len(read_video('o.avi')) == 2


def test_a_bad_frame_is_skipped_and_counted(run):
    path = write_video('a.avi', noise_frames(6, SIZE))
    path = damage_frame(path, 2)
    code, out, _ = run(path, '--out', 'o.avi', '--max-frames', '4')
    assert code == EXIT_OK
    assert 'a.avi (frame 2) cannot be read: skipped' in out
    assert 'unreadable frames' in out
    assert len(read_video('o.avi')) == 4


def test_a_truncated_file_keeps_what_was_written(run):
    path = write_video('a.avi', noise_frames(12, SIZE))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, _ = run(path, '--out', 'o.mp4')
    assert code == EXIT_INCOMPLETE
    assert 'announces 12 frames' in out
    assert 0 < len(read_video('o.mp4')) < 12


def test_a_change_of_size_is_rescaled_and_named(run, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    frames = static_frames(2, SIZE) + static_frames(2, (96, 64))
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'{index}.png'), frame)
    code, out, _ = run(folder, '--out', 'o.avi', '--json', 'o.json')
    assert code == EXIT_OK
    assert 'the frames are now 96x64: rescaled to the 128x96' in out
    assert [f.shape for f in read_video('o.avi')] == [(96, 128, 3)] * 4
    with open('o.json') as file:
        frames = json.load(file)['frames']
    is_reference = [f['gmac'] == f['dense_gmac'] for f in frames]
    assert is_reference == [True, False, True, False]


@pytest.mark.parametrize('kind', ['SIGINT', 'SIGTERM', 'SIGHUP'])
def test_after_an_interrupt_the_files_are_complete(run, monkeypatch, kind):
    path = write_video('a.avi', static_frames(6, SIZE))
    original = run.tool.apis.StreamTotals.add

    def add(totals, result):
        original(totals, result)
        if totals.frames == 3:
            signal.raise_signal(signal.Signals[kind])
            time.sleep(0.2)  # until the main thread has heard it

    monkeypatch.setattr(run.tool.apis.StreamTotals, 'add', add)
    code, out, _ = run(path, '--out', 'o.mp4', '--json', 'o.json')
    assert code == EXIT_INTERRUPTED
    with open('o.json') as file:
        frames = json.load(file)['summary']['frames']
    # The frame that was under way may still come.
    assert frames in (3, 4)
    assert f'interrupted after {frames} frames' in out
    assert len(read_video('o.mp4')) == frames


@pytest.mark.parametrize('number', ['SIGINT', 'SIGTERM', 'SIGHUP'])
def test_a_camera_that_hangs_does_not_keep_the_tool(
    run, setup, fork, wait_for, monkeypatch, number
):
    seen = multiprocessing.Value('i', 0)
    original = run.tool.apis.StreamTotals.add

    def add(totals, result):
        original(totals, result)
        seen.value = totals.frames

    monkeypatch.setattr(run.tool.apis.StreamTotals, 'add', add)
    # Frames that come while the model is busy are dropped.
    with stalling_camera(static_frames(8, SIZE)) as address:
        argv = [setup.config, setup.checkpoint, address]
        files = ['--out', 'o.mp4', '--json', 'o.json']
        tool = fork(run.tool.main, 'stream_video', [*argv, *files])
        wait_for(lambda: seen.value > 0)
        time.sleep(1)  # until it waits for a frame that does not come
        start = time.monotonic()
        os.kill(tool.pid, signal.Signals[number])
        tool.join(10)
        seconds = time.monotonic() - start

    assert tool.exitcode == EXIT_INTERRUPTED
    assert seconds < 2
    assert len(read_video('o.mp4')) == seen.value
    with open('o.json') as file:
        assert json.load(file)['summary']['frames'] == seen.value


def test_without_a_mask_the_frames_are_not_tinted(run):
    path = write_video('a.avi', static_frames(1, SIZE))
    for options in ([], ['--no-mask']):
        name = f'o{len(options)}.avi'
        code, _, _ = run(path, '--out', name, '--score-thr', '1', *options)
        assert code == EXIT_OK
    (tinted,), (plain,) = read_video('o0.avi'), read_video('o1.avi')
    green = slice(1, 2)
    assert tinted[48:, :, green].mean() < plain[48:, :, green].mean() - 20


@pytest.mark.parametrize(
    ('source', 'options', 'text'),
    [
        ('no.mp4', [], 'video not found: no.mp4'),
        ('empty', [], 'no image in folder empty'),
        ('broken.mp4', [], 'cannot read broken.mp4 as a video'),
        ('zero.avi', [], 'zero.avi has no readable frame'),
        ('a.avi', ['--out', 'o.gif'], '.avi, .mkv, .mov, .mp4'),
        ('a.avi', ['--out', 'a.avi'], 'a.avi is the source'),
        ('a.avi', ['--json', './a.avi'], 'a.avi is the source'),
        ('a.avi', ['--json', 'empty'], 'cannot write empty'),
        ('a.avi', ['--device', 'abacus'], "cannot use device 'abacus'"),
        ('a.avi', ['--bbox', '0', '0', '9', '9'], 'takes the whole frame'),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, source, options, text):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken.mp4').write_bytes(b'broken' * 99)
    fourcc = cv2.VideoWriter_fourcc(*'MJPG')
    cv2.VideoWriter('zero.avi', fourcc, 25, SIZE).release()
    before = write_video(tmp_path / 'a.avi', static_frames(1, SIZE))
    content = before.read_bytes()
    code, _, err = run(source, *options)
    assert code == EXIT_MISTAKE
    assert text in err
    assert err.splitlines()[-1].startswith('stream_video: error: ')
    assert before.read_bytes() == content


def test_the_checkpoint_of_another_model_is_refused(run, setup):
    write_video('a.avi', static_frames(1, SIZE))
    torch.save(dict(weight=torch.zeros(1)), 'other.pth')
    argv = [str(setup.config), 'other.pth', 'a.avi']
    with pytest.raises(UserError, match='checkpoint of another config'):
        run.tool.main(argv)


def test_weights_that_are_not_the_models_are_not_run(run, setup, unfit):
    path, text = unfit
    write_video('a.avi', static_frames(1, SIZE))
    argv = [str(setup.config), str(path), 'a.avi']
    with pytest.raises(UserError, match=f'{path}.*{text}'):
        run.tool.main(argv)
