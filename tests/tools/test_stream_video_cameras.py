import json
import os
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmskip.apis.errors import (
    EXIT_INCOMPLETE,
    EXIT_MISTAKE,
    EXIT_OK,
    run_tool,
)
from mmskip.video import read_results
from tests.apis.fakes import noise_frames, static_frames, write_video

SIZE = (128, 96)


@pytest.fixture
def run(setup, load_tool, capsys, tmp_path, monkeypatch):
    """Run the tool; returns the exit code, stdout and stderr."""
    tool = load_tool('stream_video')
    monkeypatch.chdir(tmp_path)

    def call(*options):
        argv = [setup.config, setup.checkpoint, *options]
        code = run_tool(tool.main, 'stream_video', [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.tool = tool
    return call


def entries(path):
    """Read results without what differs from run to run."""
    left_out = ('ms', 'time')
    return [
        {key: value for key, value in entry.items() if key not in left_out}
        for entry in read_results(path)
    ]


def test_cameras_find_what_each_finds_alone(run):
    write_video('a.avi', static_frames(5, SIZE))
    write_video('b.avi', noise_frames(4, SIZE))
    assert run('a.avi', '--json', 'alone-a.jsonl')[0] == EXIT_OK
    assert run('b.avi', '--json', 'alone-b.jsonl')[0] == EXIT_OK
    code, out, _ = run(
        'a.avi', '--source', 'b.avi', '--json', '{name}.jsonl', '--out',
        '{name}.mkv',
    )  # fmt: skip
    assert code == EXIT_OK
    assert entries('a.jsonl') == entries('alone-a.jsonl')
    assert entries('b.jsonl') == entries('alone-b.jsonl')
    assert os.path.getsize('a.mkv')
    assert os.path.getsize('b.mkv')
    assert out.count('GMAC/frame') == 4


def test_a_camera_that_is_not_there_is_left_behind(run):
    write_video('a.avi', static_frames(3, SIZE))
    code, out, _ = run('a.avi', 'no.mp4', '--json', '{name}.jsonl')
    assert code == EXIT_INCOMPLETE
    assert 'warning: no: video not found: no.mp4' in out
    assert len(entries('a.jsonl')) == 3


def test_a_file_of_cameras_says_what_each_watches(run):
    frames = static_frames(3, SIZE)
    frames[1] = frames[1].copy()
    frames[1][:, :40] = 255 - frames[1][:, :40]
    write_video('a.avi', frames)
    mask = np.zeros((96, 128), np.uint8)
    mask[:, :64] = 255
    cv2.imwrite('left.png', mask)
    with open('cameras.yaml', 'w') as file:
        file.write(
            '- {source: a.avi, name: all}\n'
            '- {source: a.avi, name: right, ignore: left.png}\n'
            '- {source: a.avi, name: left, region: [0, 0, .5, 0, .5, 1]}\n'
        )
    code, _, _ = run('--cameras', 'cameras.yaml', '--json', '{name}.jsonl')
    assert code == EXIT_OK
    whole, right = entries('all.jsonl'), entries('right.jsonl')
    assert right[1]['gmac'] < whole[1]['gmac'] / 2
    for entry in right:
        for found in entry['instances']:
            assert (found['bbox'][0] + found['bbox'][2]) / 2 >= 63


def test_reference_frames_are_told_with_their_reasons(run):
    coarse = noise_frames(1, (8, 6))[0]
    scene = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    frames = [scene] * 2 + [255 - scene] * 4
    write_video('a.avi', frames)
    code, out, _ = run('a.avi', '--json', 'a.jsonl', '--reset-interval', '2')
    assert code == EXIT_OK
    reasons = [entry.get('restart') for entry in entries('a.jsonl')]
    assert reasons == ['first', None, 'cut', None, 'interval', None]
    assert '1 first, 1 cut, 1 interval' in out
    run('a.avi', '--json', 'b.jsonl', '--no-restarts')
    reasons = [entry.get('restart') for entry in entries('b.jsonl')]
    assert reasons == ['first'] + [None] * 5


def test_tracks_go_to_all_logs(run):
    pytest.importorskip('lap')
    write_video('a.avi', static_frames(5, SIZE))
    code, _, _ = run(
        'a.avi', '--track', '--score-thr', '0', '--json', 'a.jsonl', 'a.csv',
        'a.txt',
    )  # fmt: skip
    assert code == EXIT_OK
    with open('a.csv') as file:
        assert file.readline().startswith('index,time,id,')
    assert os.path.exists('a.txt')


def test_the_score_that_begins_a_track_is_an_option(run):
    pytest.importorskip('lap')
    write_video('a.avi', static_frames(5, SIZE))
    rows = {}
    for score in (0.1, 1.0):
        code, _, _ = run(
            'a.avi', '--track', '--track-score', str(score), '--score-thr',
            '0', '--json', 'a.txt',
        )  # fmt: skip
        assert code == EXIT_OK
        rows[score] = Path('a.txt').read_text().splitlines()
    assert rows[0.1]
    assert not rows[1.0]


def test_figures_are_served_while_it_runs(run, monkeypatch):
    pytest.importorskip('prometheus_client')
    write_video('a.avi', static_frames(4, SIZE))
    pages = []
    make = run.tool.Metrics

    class Watched(make):
        def observe(self, *args):
            super().observe(*args)
            address = f'http://127.0.0.1:{self.port}/metrics'
            with urllib.request.urlopen(address) as answer:
                pages.append(answer.read().decode())

    monkeypatch.setattr(run.tool, 'Metrics', Watched)
    assert run('a.avi', '--metrics-port', '0')[0] == EXIT_OK
    assert 'mmskip_frames_total{camera="a"} 4.0' in pages[-1]


def test_memory_that_is_too_much_is_refused(run):
    write_video('a.avi', static_frames(3, SIZE))
    code, _, err = run('a.avi', '--max-memory', '1')
    assert code == EXIT_MISTAKE
    assert '--max-memory' in err


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ([], 'expected a source'),
        (['a.avi', '--max-memory', 'much'], '4GiB'),
        (['a.avi', '--workers', '0'], '--workers must be positive'),
        (['a.avi', '--json', 'a.txt'], 'expected --track'),
        (['a.avi', '--region', '1,2,3'], '--region'),
        (['a.avi', '--track-score', '0.5'], 'expected --track or --pose'),
        (['a.avi', '--track', '--track-score', '0.05'], 'in [0.1, 1], got'),
    ],
)
def test_options_that_cannot_be_are_refused(run, capsys, options, text):
    write_video('a.avi', static_frames(1, SIZE))
    with pytest.raises(SystemExit) as error:
        run(*options)
    assert error.value.code == EXIT_MISTAKE
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['a.avi', 'b.avi', '--json', 'o.jsonl'], '{name}'),
        (['none', 'no.mp4'], 'none of the sources'),
        (['--cameras', 'none.yaml'], 'found no none.yaml'),
        (['a.avi', '--ignore', 'none.png'], 'cannot read none.png'),
        (['a.avi', '--json', 'o.json', './o.json'], 'expected two files'),
    ],
)
def test_a_mistake_of_cameras_is_one_line(run, options, text):
    for name in 'ab':
        write_video(f'{name}.avi', static_frames(1, SIZE))
    code, _, err = run(*options)
    assert code == EXIT_MISTAKE
    assert text in err


def test_a_summary_is_the_last_line(run):
    write_video('a.avi', static_frames(2, SIZE))
    run('a.avi', '--json', 'a.jsonl')
    with open('a.jsonl') as file:
        summary = json.loads(file.readlines()[-1])['summary']
    assert summary['frames'] == 2
    assert summary['restarts'] == {'first': 1}
    assert summary['black'] == summary['dropped'] == 0
