"""Archives: what is run, skipped, refused and left behind."""

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from mmskip.apis import UserError
from mmskip.apis.archive import (
    Archive,
    ArchiveModel,
    ArchiveProgress,
    Finished,
    Video,
    find_videos,
)
from mmskip.apis.workers import Outcome


class Here:
    """Does the work in this process."""

    def __init__(self, work):
        self._work = work
        self.tasks = []

    def run(self, tasks):
        for task in tasks:
            self.tasks.append(task)
            try:
                yield Outcome(task, self._work(task))
            except ValueError as error:
                yield Outcome(task, None, str(error))


def write_result(video):
    """Pretend: a file of results that holds the name of the video."""
    if 'broken' in video.source.name:
        raise ValueError('it is broken')
    video.result.write_text(video.source.name)
    cut_short = 'it ends early' if 'short' in video.source.name else None
    return Finished(3, 30, 10, (), cut_short)


@pytest.fixture
def model(tmp_path):
    (tmp_path / 'a.py').write_text('answer = 42\n')
    (tmp_path / 'a.pth').write_bytes(b'weights')
    return ArchiveModel(str(tmp_path / 'a.py'), str(tmp_path / 'a.pth'))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Videos to search, in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    make(*(f'in/{n}' for n in ('2.mp4', '10.mp4', 'sub/2.mp4', 'a.txt')))
    return tmp_path


def make(*names):
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def run(model, named=('in',), out='out'):
    """Run an archive; returns what was done, and the errors."""
    workers = Here(write_result)
    videos = find_videos(named, out)
    with Archive(out, model) as archive:
        todo = [video for video, _ in archive.waiting(videos)]
        found = list(archive.run(todo, workers))
        failed = [(o.task, o.error) for o in found if o.error is not None]
        archive.write_errors([*failed, *archive.cut_short(videos)])
    return sorted(str(task.source) for task in workers.tasks)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def places(named, out='out'):
    return {
        str(video.source): video.result.relative_to(out).as_posix()
        for video in find_videos(named, out)
    }


def test_folders_are_searched_and_results_keep_their_places(folder):
    make('in/._2.mp4', 'in/.hidden/3.mp4', 'in/B.MKV')
    assert places(['in']) == {
        'in/2.mp4': '2.mp4.jsonl',
        'in/10.mp4': '10.mp4.jsonl',
        'in/B.MKV': 'B.MKV.jsonl',
        'in/sub/2.mp4': 'sub/2.mp4.jsonl',
    }


def test_a_folder_of_images_is_a_video(folder):
    make('seq/a/1.png', 'seq/a/2.png', 'seq/b/1.jpg', 'seq/b/clip.mp4')
    assert places(['seq']) == {
        'seq/a': 'a.jsonl',
        'seq/b/clip.mp4': 'b/clip.mp4.jsonl',
    }
    assert places(['seq/a']) == {'seq/a': 'a.jsonl'}


def test_a_list_names_files_and_folders_and_may_name_what_is_gone(folder):
    Path('list.txt').write_text('in/sub/2.mp4\n\nin/2.mp4\ngone/9.mp4\n')
    assert places(['@list.txt']) == {
        'gone/9.mp4': 'gone/9.mp4.jsonl',
        'in/2.mp4': 'in/2.mp4.jsonl',
        'in/sub/2.mp4': 'in/sub/2.mp4.jsonl',
    }


def test_a_video_that_is_named_twice_is_one(folder):
    assert (
        len(places(['in/2.mp4', './in/2.mp4', str(folder / 'in/2.mp4')])) == 1
    )


@pytest.mark.parametrize(
    ('named', 'text'),
    [
        (['gone.mp4'], 'video not found: gone.mp4'),
        (['in/2.mp4', 'in/sub/2.mp4'], 'would have the same results'),
        (['empty'], 'no video in empty'),
    ],
)
def test_what_cannot_be_an_archive_is_refused(folder, named, text):
    Path('empty').mkdir()
    with pytest.raises(UserError, match=text):
        find_videos(named, 'out')


def test_a_second_run_does_nothing(folder, model):
    assert run(model) == ['in/10.mp4', 'in/2.mp4', 'in/sub/2.mp4']
    state = Path('out/finished.jsonl').read_text()
    assert run(model) == []
    assert Path('out/finished.jsonl').read_text() == state
    assert Path('out/sub/2.mp4.jsonl').read_text() == '2.mp4'


def test_what_is_new_changed_or_lost_is_done(folder, model):
    run(model)
    make('in/new.mp4')
    Path('in/2.mp4').write_text('longer than before')
    Path('out/10.mp4.jsonl').unlink()
    assert run(model) == ['in/10.mp4', 'in/2.mp4', 'in/new.mp4']
    assert run(model) == []


def test_a_state_that_was_cut_off_loses_one_video(folder, model):
    run(model)
    state = Path('out/finished.jsonl')
    last = lines(state)[-1]['video']
    os.truncate(state, state.stat().st_size - 9)
    (done,) = run(model)
    assert last.endswith(done)
    assert run(model) == []


def test_what_was_not_complete_is_removed(folder, model):
    make('out/sub/2.mp4.1234.partial.jsonl')
    run(model)
    assert not list(Path('out').rglob('*partial*'))


def test_broken_videos_are_left_behind_and_tried_again(folder, model):
    make('in/broken.mp4', 'in/short.mp4')
    assert len(run(model)) == 5
    errors = [
        dict(video='in/broken.mp4', error='it is broken'),
        dict(video='in/short.mp4', error='it ends early'),
    ]
    assert lines('out/errors.jsonl') == errors
    # What could be read of a short one is there.
    assert run(model) == ['in/broken.mp4']
    assert lines('out/errors.jsonl') == errors
    Path('in/broken.mp4').unlink()
    Path('in/short.mp4').unlink()
    assert run(model) == []
    assert not Path('out/errors.jsonl').exists()


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        (lambda m: Path(m.config).write_text('answer = 43'), 'config'),
        (lambda m: Path(m.checkpoint).write_bytes(b'other'), 'checkpoint'),
        (lambda m: m.__dict__.update(score_thr=0.5), 'score_thr'),
        (lambda m: m.__dict__.update(dense=True), 'dense'),
        (lambda m: m.__dict__.update(cfg_options=dict(a=1)), 'config'),
    ],
)
def test_results_of_another_model_are_never_mixed(folder, model, change, name):
    run(model)
    before = {p: p.read_bytes() for p in Path('out').rglob('*.jsonl')}
    change(model)
    with pytest.raises(UserError, match=f'with another {name}; name another'):
        run(model)
    assert before == {p: p.read_bytes() for p in Path('out').rglob('*.jsonl')}


def test_results_of_another_video_are_not_replaced(folder, model):
    make('other/2.mp4')
    run(model)
    with pytest.raises(UserError, match=r'has the results of .*in/2\.mp4'):
        run(model, ['other'])


def test_two_runs_at_a_time_are_refused(folder, model):
    with (
        Archive('out', model),
        pytest.raises(UserError, match='another process'),
        Archive('out', model),
    ):
        pass


@pytest.mark.parametrize('interval', [0, 99])
def test_the_time_left_follows_from_the_bytes(capsys, monkeypatch, interval):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr('time.perf_counter', lambda: next(clock))
    videos = [(Video(Path(f'{n}.mp4'), Path('r')), 100) for n in range(4)]
    progress = ArchiveProgress(Console(width=200), videos, interval)
    for video, _ in videos[:3]:
        progress.update(Outcome(video, Finished(8, 80, 20, ('noise',))))
    out = capsys.readouterr().out
    assert out.count('warning: noise') == 3
    assert ('3/4 videos' in out) == (interval == 0)
    assert (progress.frames, progress.dense, progress.spent) == (24, 240, 60)
