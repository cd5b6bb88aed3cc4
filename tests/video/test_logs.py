import csv
import json
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmskip.apis import ResultLog, stream_video
from mmskip.core import MacCount
from mmskip.reading import InputError
from mmskip.video import FrameResult, read_results
from mmskip.video.logs import instances_to_list
from tests.apis.fakes import static_frames, tiny_detector

SUFFIXES = ('.json', '.jsonl', '.csv', '.txt')


def results(count=3):
    return stream_video(tiny_detector(threshold=0.0), static_frames(count))


def detections(ids=None):
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 1.0, 2.5, 3.123], [0.0, 0.0, 1.0, 1.0]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([1, 0]),
    )
    if ids is not None:
        found.instances_id = torch.tensor(ids)
    return BaseDataElement(pred_instances=found)


def poses():
    found = InstanceData(
        keypoints=np.array([[[1.0, 2.0], [3.0, 4.004]]]),
        keypoint_scores=np.array([[0.5, 0.01]]),
    )
    return BaseDataElement(pred_instances=found)


def result_of(prediction, index=0, restart=None):
    return FrameResult(
        *(index, static_frames(1)[0], prediction, MacCount(4e9, 3e9, 0, 1e9)),
        *(None, 0.0123456, 1.7e9 + index / 25, restart),
    )


def write_all(log, frames):
    with log:
        for frame in frames:
            log.write(frame)
    return log.path.read_text()


def test_the_log_holds_each_frame_and_the_summary(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    log = ResultLog(path, 'a video', lambda: dict(frames=3), ('car',), 0.0)
    content = json.loads(write_all(log, results()))
    assert content['source'] == 'a video'
    assert content['summary'] == dict(frames=3)
    assert [frame['index'] for frame in content['frames']] == [0, 1, 2]
    frame = content['frames'][1]
    assert 0 < frame['gmac'] < frame['dense_gmac']
    (instance,) = frame['instances']
    assert instance['bbox'] == [4.0, 4.0, 20.0, 20.0]
    assert (instance['label'], instance['class']) == (0, 'car')


@pytest.mark.parametrize('count', [0, 1])
@pytest.mark.parametrize('suffix', ['.json', '.jsonl'])
def test_the_log_is_valid_after_an_interrupt(tmp_path, count, suffix):
    path = tmp_path / f'a{suffix}'
    with suppress(KeyboardInterrupt), ResultLog(path, 'a video') as log:
        for result in results(count):
            log.write(result)
        raise KeyboardInterrupt
    assert len(list(read_results(path))) == count


def test_json_lines_begin_with_the_source_and_end_with_the_summary(tmp_path):
    path = tmp_path / 'a.jsonl'
    log = ResultLog(path, 'door', lambda: dict(frames=2), ('dog', 'cat'))
    frames = [
        result_of(detections()),
        result_of(detections([7, -1]), 1, 'scene cut'),
    ]
    lines = [json.loads(line) for line in write_all(log, frames).splitlines()]
    first, cat, second, last = lines
    assert first == dict(source='door', classes=['dog', 'cat'])
    assert last == dict(summary=dict(frames=2))
    assert 'restart' not in cat
    assert second['restart'] == 'scene cut'
    assert second['time'] == 1.7e9 + 0.04
    assert second['ms'] == 12.346
    assert [i.get('id') for i in second['instances']] == [7, None]


@pytest.mark.parametrize('suffix', ['.jsonl', '.csv', '.txt'])
def test_each_frame_is_in_the_file_before_the_next(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    with ResultLog(path, 'door') as log:
        before = path.stat().st_size
        for index in range(3):
            log.write(result_of(detections([1, 2]), index))
            assert path.read_text().endswith('\n')
            assert path.stat().st_size > before
            before = path.stat().st_size


def test_csv_has_a_row_per_instance(tmp_path):
    log = ResultLog(tmp_path / 'a.csv', 'door', classes=('dog', 'a,b'))
    frames = [result_of(detections()), result_of(detections([7, -1]), 1)]
    rows = list(csv.DictReader(write_all(log, frames).splitlines()))
    assert len(rows) == 4
    assert rows[2] == dict(
        index='1', time='1700000000.04', id='7', label='1', score='0.9',
        x1='0.0', y1='1.0', x2='2.5', y2='3.12', keypoints='',
        **{'class': 'a,b'},
    )  # fmt: skip
    assert [row['id'] for row in rows] == ['', '', '7', '']


def test_csv_of_poses_has_their_keypoints(tmp_path):
    log = ResultLog(tmp_path / 'a.csv', 'door')
    (row,) = csv.DictReader(write_all(log, [result_of(poses())]).splitlines())
    assert row['keypoints'] == '1.0 2.0 0.5 3.0 4.0 0.01'
    assert row['x1'] == ''


def test_mot_counts_from_one_and_knows_tracks_only(tmp_path):
    log = ResultLog(tmp_path / 'a.txt', 'door')
    frames = [
        result_of(detections()),
        result_of(detections([7, -1]), 1),
        result_of(detections([7, 8]), 2),
    ]
    assert write_all(log, frames).splitlines() == [
        '2,7,1.00,2.00,2.50,2.12,0.9,-1,-1,-1',
        '3,7,1.00,2.00,2.50,2.12,0.9,-1,-1,-1',
        '3,8,1.00,1.00,1.00,1.00,0.8,-1,-1,-1',
    ]


def test_files_rotate_by_size_and_none_is_lost(tmp_path):
    log = ResultLog(
        tmp_path / 'a.jsonl', 'door', lambda: dict(end=1), rotate='1kB'
    )
    write_all(log, [result_of(detections(), i) for i in range(20)])
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_ino)
    assert len(files) > 3
    assert all(path.stat().st_size <= 1000 for path in files)
    assert all(json.loads(first_line(path)) for path in files)
    indices = {f['index'] for path in files for f in read_results(path)}
    assert indices == set(range(20))
    assert 'summary' in log.path.read_text()


def first_line(path: Path):
    return path.read_text().splitlines()[0]


def test_files_rotate_by_the_hour_and_leave_older_ones(tmp_path, monkeypatch):
    now = 1_795_957_199.0  # 12:59:59
    monkeypatch.setattr(time, 'time', lambda: now)
    older = tmp_path / 'a-20261129T125959Z.csv'
    older.write_text('older')
    with ResultLog(tmp_path / 'a.csv', 'door', rotate='hour') as log:
        log.write(result_of(detections()))
        assert log.path.name == 'a-20261129T125959Z-2.csv'
        now += 2
        log.write(result_of(detections()))
        assert log.path.name == 'a-20261129T130001Z.csv'
        now += 3000
        log.write(result_of(detections()))
    assert older.read_text() == 'older'
    assert len(log.path.read_text().splitlines()) == 5
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize('rotate', ['day', '5', '0MB', '-1MB', '1 TB', ''])
def test_a_rotation_that_is_neither_is_refused(tmp_path, rotate):
    with pytest.raises(InputError, match=r"expected to rotate .*'hour'"):
        ResultLog(tmp_path / 'a.jsonl', 'door', rotate=rotate)


def test_one_document_does_not_rotate(tmp_path):
    with pytest.raises(InputError, match=r'expected a name ending in .jsonl'):
        ResultLog(tmp_path / 'a.json', 'door', rotate='hour')


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_full_disk_is_an_error_at_once(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    path.symlink_to('/dev/full')
    log = ResultLog(path, 'door')
    with pytest.raises(InputError, match='No space left on device'):
        write_all(log, [result_of(detections([1, 2]))])


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match='got a folder'):
        ResultLog(tmp_path, 'a video')
    with pytest.raises(InputError, match=r'expected a name.*\.jsonl'):
        ResultLog(tmp_path / 'a.xml', 'a video')
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='cannot write'):
        ResultLog(tmp_path / 'file' / 'a.json', 'a video').__enter__()


def test_both_kinds_of_json_read_the_same(tmp_path):
    frames = [result_of(detections([3, 4]), index) for index in range(3)]
    for suffix in ('.json', '.jsonl'):
        write_all(ResultLog(tmp_path / f'a{suffix}', 'door'), frames)
    found = list(read_results(tmp_path / 'a.json'))
    assert found == list(read_results(tmp_path / 'a.jsonl'))
    assert [frame['index'] for frame in found] == [0, 1, 2]


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / 'a.jsonl'
    text = write_all(ResultLog(path, 'door'), [result_of(detections())] * 2)
    second = text.index('\n', text.index('\n') + 1)
    path.write_text(text[: second + 20])
    assert len(list(read_results(path))) == 1


@pytest.mark.parametrize(
    ('name', 'text', 'match'),
    [
        ('a.json', '{"frames": [', 'a .jsonl is'),
        ('a.json', '{"a": 1}', 'expected "frames"'),
        ('a.json', '[]', 'got list'),
        ('a.jsonl', '{}\nx\n', 'line 2'),
    ],
)
def test_other_files_are_told_from_results(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=match):
        list(read_results(tmp_path / name))


def test_detections_below_the_threshold_are_left_out():
    entries = instances_to_list(detections(), score_thr=0.85)
    assert entries == [dict(bbox=[0, 1, 2.5, 3.12], score=0.9, label=1)]


def test_tracks_have_their_number_unless_they_are_on_none():
    first, second = instances_to_list(detections([12, -1]))
    assert first['id'] == 12
    assert 'id' not in second


def test_keypoints_all_stay():
    (entry,) = instances_to_list(poses())
    assert entry == dict(
        keypoints=[[1, 2], [3, 4]], keypoint_scores=[0.5, 0.01]
    )


def test_a_pose_comes_with_its_box_and_track():
    prediction = poses()
    prediction.pred_instances.bboxes = np.array([[1.0, 2.0, 3.0, 4.0]])
    prediction.pred_instances.bbox_scores = np.array([0.75])
    prediction.pred_instances.instances_id = np.array([5])
    (entry,) = instances_to_list(prediction)
    assert (entry['id'], entry['bbox'], entry['score']) == (
        5,
        [1, 2, 3, 4],
        0.75,
    )
