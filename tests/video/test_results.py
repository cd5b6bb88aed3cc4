import json
from contextlib import suppress

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmskip.apis import ResultLog, ResultVideo, stream_video
from mmskip.reading import InputError
from mmskip.video.results import instances_to_list
from tests.apis.fakes import read_video, static_frames, tiny_detector


def draw_nothing(image, prediction):
    return image


def results(count=3):
    return stream_video(tiny_detector(threshold=0.0), static_frames(count))


def test_the_video_shows_each_frame_tinted_where_it_was_computed(tmp_path):
    path = tmp_path / 'a.avi'
    with ResultVideo(path, 25, draw_nothing) as video:
        for result in results():
            video.write(result)
    first, second, third = (f[24:].astype(int) for f in read_video(path))
    assert video.path == path
    # The reference frame is tinted magenta, the others not at all.
    assert first[..., 1].mean() < second[..., 1].mean() - 20
    assert np.abs(second - third).mean() < 2


def test_without_frames_an_older_video_is_left_alone(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_text('older')
    with ResultVideo(path, 25, draw_nothing):
        pass
    assert path.read_text() == 'older'


def test_an_unknown_suffix_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r'\.mp4'):
        ResultVideo(tmp_path / 'a.gif', 25, draw_nothing)


def test_the_log_holds_each_frame_and_the_summary(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    log = ResultLog(path, 'a video', lambda: dict(frames=3), ('car',), 0.0)
    with log:
        for result in results():
            log.write(result)
    content = json.loads(path.read_text())
    assert content['source'] == 'a video'
    assert content['summary'] == dict(frames=3)
    assert [frame['index'] for frame in content['frames']] == [0, 1, 2]
    frame = content['frames'][1]
    assert 0 < frame['gmac'] < frame['dense_gmac']
    (instance,) = frame['instances']
    assert instance['bbox'] == [4.0, 4.0, 20.0, 20.0]
    assert (instance['label'], instance['class']) == (0, 'car')


@pytest.mark.parametrize('count', [0, 1])
def test_the_log_is_valid_after_an_interrupt(tmp_path, count):
    path = tmp_path / 'a.json'
    log = ResultLog(path, 'a video', dict)
    with suppress(KeyboardInterrupt), log:
        for result in results(count):
            log.write(result)
        raise KeyboardInterrupt
    assert len(json.loads(path.read_text())['frames']) == count


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match='cannot write'):
        ResultLog(tmp_path, 'a video', dict).__enter__()


def test_detections_below_the_threshold_are_left_out():
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 1.0, 2.0, 3.123], [0.0, 0.0, 1.0, 1.0]]),
        scores=torch.tensor([0.9, 0.2]),
        labels=torch.tensor([1, 0]),
    )
    entries = instances_to_list(BaseDataElement(pred_instances=found))
    assert entries == [dict(bbox=[0, 1, 2, 3.12], score=0.9, label=1)]


def test_keypoints_all_stay():
    found = InstanceData(
        keypoints=np.array([[[1.0, 2.0], [3.0, 4.004]]]),
        keypoint_scores=np.array([[0.5, 0.01]]),
    )
    (entry,) = instances_to_list(BaseDataElement(pred_instances=found))
    assert entry['keypoints'] == [[1, 2], [3, 4]]
    assert entry['keypoint_scores'] == [0.5, 0.01]
