"""The command that runs a model over an archive of videos."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mmskip.apis.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_OK,
    run_tool,
)
from tests.apis.fakes import noise_frames, static_frames, write_video

SIZE = (128, 96)
TIMED = ('ms', 'ms_per_frame', 'ms_first', 'fps')


@pytest.fixture
def run(setup, load_tool, capsys):
    """Run a tool; returns the exit code and what it says."""

    def call(tool, *arguments):
        argv = [setup.config, setup.checkpoint, *arguments]
        main = load_tool(tool).main
        code = run_tool(main, tool, [str(part) for part in argv])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def write_videos(*names, count=4):
    Path('in/sub').mkdir(parents=True)
    for seed, name in enumerate(names):
        frames = static_frames(2, SIZE) + noise_frames(count, SIZE, seed)
        write_video(f'in/{name}', frames)


def untimed(path):
    """Results without what differs from run to run."""
    text, values = Path(path).read_text(), []

    def drop(entry):
        return {k: v for k, v in entry.items() if k not in TIMED}

    decoder = json.JSONDecoder(object_hook=drop)
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:]
    return values


def test_results_are_those_of_stream_and_a_second_run_does_nothing(run):
    names = ['a.avi', 'b.avi', 'sub/a.avi', 'sub/c.avi', 'd.avi']
    write_videos(*names)
    Path('in/broken.mp4').write_bytes(b'broken' * 99)
    code, text = run('archive', 'in', '--out', 'out', '--workers', 2)
    assert code == EXIT_INCOMPLETE
    assert 'in/broken.mp4 failed: cannot read in/broken.mp4' in text
    (error,) = Path('out/errors.jsonl').read_text().splitlines()
    assert json.loads(error)['video'] == 'in/broken.mp4'

    for name in names:
        run('stream_video', f'in/{name}', '--json', 'stream.jsonl')
        found = untimed(f'out/{name}.jsonl')
        assert found == untimed('stream.jsonl')
        assert str(found).count("'index'") == 6

    Path('in/broken.mp4').unlink()
    before = {p: p.stat().st_mtime_ns for p in Path('out').rglob('*.avi.*')}
    assert len(before) == len(names)
    code, text = run('archive', 'in', '--out', 'out')
    assert code == EXIT_OK
    assert '5 videos, 5 of them finished before' in text
    assert not Path('out/errors.jsonl').exists()
    for path, modified in before.items():
        assert path.stat().st_mtime_ns == modified

    code, text = run('archive', 'in', '--out', 'out', '--score-thr', 0.9)
    assert code == EXIT_MISTAKE
    assert 'made with another score_thr' in text


def test_sigterm_ends_it_and_leaves_nothing_that_is_not_complete(
    run, wait_for
):
    write_videos('long.avi', count=2000)
    ended = []

    def end():
        wait_for(lambda: list(Path('out').glob('*.partial.jsonl')))
        ended.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    code, text = run('archive', 'in', '--out', 'out', '--workers', 1)
    seconds = time.monotonic() - ended[0]
    thread.join()
    assert code == EXIT_INTERRUPTED
    assert 'interrupted' in text
    assert seconds < 3
    assert not list(Path('out').glob('*.avi.*'))


def test_weights_that_are_not_the_models_end_it(setup, load_tool, capsys):
    write_videos('a.avi')
    Path('other.pth').write_bytes(b'no weights')
    argv = [str(setup.config), 'other.pth', 'in', '--out', 'out']
    code = run_tool(load_tool('archive').main, 'archive', argv)
    assert code == EXIT_MISTAKE
    assert 'other.pth' in capsys.readouterr().err
