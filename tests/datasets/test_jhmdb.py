"""J-HMDB as samples of mmaction2's pipelines."""

import numpy as np
import pytest

pytest.importorskip('mmaction')

from mmskip.datasets import JHMDBDataset
from mmskip.datasets.jhmdb_release import read_ground_truth, write_ground_truth
from mmskip.registry import TRANSFORMS
from mmskip.toy import make_toy_jhmdb

SMALL = dict(train_videos=2, test_videos=1, frames=(3, 5), size=(80, 64))


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    return make_toy_jhmdb(tmp_path_factory.mktemp('toy') / 'jhmdb', **SMALL)


@pytest.fixture
def copy(toy, tmp_path):
    """The boxes to be changed, beside the same frames."""
    (tmp_path / 'Rename_Images').symlink_to(toy / 'Rename_Images')
    truth = read_ground_truth(toy / 'JHMDB-GT.pkl')

    def load(**options):
        write_ground_truth(tmp_path / 'JHMDB-GT.pkl', truth)
        return JHMDBDataset(
            data_root=str(tmp_path), **{'pipeline': [], **options}
        )

    load.truth = truth
    load.root = tmp_path
    return load


def test_every_annotated_frame_of_the_split_is_a_sample(copy):
    for subset in ('train', 'test'):
        for split in (1, 2, 3):
            dataset = copy(split=split, subset=subset)
            videos = copy.truth[f'{subset}_videos'][split - 1]
            found = [
                (info['video_id'], info['frame_id'])
                for info in map(dataset.get_data_info, range(len(dataset)))
            ]
            assert found == [
                (video, frame)
                for video in videos
                for frame in range(copy.truth['nframes'][video])
            ]


def test_labels_are_the_actions_of_the_folders(copy):
    dataset = copy(num_classes=8)
    assert dataset.metainfo['classes'] == tuple(copy.truth['labels'])
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        (label,) = info['gt_labels']
        action = info['video_id'].split('/')[0]
        assert dataset.metainfo['classes'][label] == action


def test_boxes_are_shares_of_the_frame(copy):
    video = copy.truth['train_videos'][0][0]
    ((label, _),) = copy.truth['gttubes'][video].items()
    box = np.array([[2, 8, 16, 40, 64]], np.float32)  # frame 2 of 80 x 64
    copy.truth['gttubes'][video] = {label: [box]}
    info = copy().get_data_info(0)
    assert info['frame_id'] == 1
    np.testing.assert_allclose(info['gt_bboxes'], [[0.1, 0.25, 0.5, 1.0]])
    assert info['gt_bboxes'].dtype == np.float32


def test_a_frame_may_have_several_boxes(copy):
    video = copy.truth['train_videos'][0][0]
    tube = np.array([[1, 0, 0, 8, 8]], np.float32)
    copy.truth['gttubes'][video] = {
        0: [tube, tube + np.float32([0, 8, 8, 8, 8])],
        3: [tube],
    }
    info = copy().get_data_info(0)
    assert info['gt_labels'].tolist() == [0, 0, 3]
    assert info['gt_bboxes'].shape == (3, 4)


def test_frames_without_a_box_are_no_samples(copy):
    first, *others = copy.truth['train_videos'][0]
    tube = np.array([[2, 0, 0, 8, 8]], np.float32)
    for video in others:
        copy.truth['gttubes'][video] = {0: []}
    copy.truth['gttubes'][first] = {0: [tube]}
    assert len(copy()) == 1
    copy.truth['gttubes'][first] = {0: []}
    with pytest.raises(ValueError, match='got none in 16 videos'):
        copy()


def test_a_stride_thins_the_frames_of_each_video(copy):
    dataset = copy(frame_stride=2)
    frames = [
        dataset.get_data_info(i)['frame_id'] for i in range(len(dataset))
    ]
    assert set(frames) <= {0, 2, 4}
    assert frames.count(0) == len(copy.truth['train_videos'][0])


def test_clips_and_boxes_reach_the_model(copy):
    pipeline = [
        dict(type='mmskip.SampleKeyFrameClip', clip_len=16),
        dict(type='mmaction.RawFrameDecode'),
        dict(type='mmaction.Resize', scale=(160, 96), keep_ratio=False),
        dict(type='mmaction.FormatShape', input_format='NCTHW', collapse=True),
        dict(
            type='mmaction.PackActionInputs',
            meta_keys=('scale_factor', 'video_id', 'frame_id'),
        ),
    ]
    dataset = copy(pipeline=[TRANSFORMS.build(step) for step in pipeline])
    info, sample = dataset.get_data_info(0), dataset[0]
    assert sample['inputs'].shape == (3, 16, 96, 160)
    truth = sample['data_samples'].gt_instances
    expected = info['gt_bboxes'] * (160, 96, 160, 96)
    np.testing.assert_allclose(truth.bboxes, expected, rtol=1e-5)
    assert sample['data_samples'].scale_factor.tolist() == [2, 1.5]


def test_a_missing_frame_is_named(copy):
    video = copy.truth['train_videos'][0][0]
    count = copy.truth['nframes'][video]
    copy.truth['nframes'][video] = count + 1
    with pytest.raises(FileNotFoundError, match=f'{count + 1:05}.png'):
        copy()
    with pytest.raises(FileNotFoundError, match=r'Frames.*00001\.png'):
        copy(data_prefix=dict(img='Frames'))


def test_another_number_of_classes_is_refused(copy):
    with pytest.raises(ValueError, match='expected 21 classes, got 8'):
        copy(num_classes=21)
    video = copy.truth['train_videos'][0][0]
    copy.truth['gttubes'][video] = {8: []}
    with pytest.raises(ValueError, match=r'expected labels 0\.\.7, got 8'):
        copy()


@pytest.mark.parametrize(
    'options',
    [dict(subset='val'), dict(split=0), dict(split=4), dict(frame_stride=0)],
)
def test_bad_options_are_refused(copy, options):
    with pytest.raises(ValueError, match='expected'):
        copy(**options)
