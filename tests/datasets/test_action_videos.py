"""mmaction2's lists, with broken videos and labels that do not fit."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmskip.reading import InputError
from mmskip.toy import make_toy_activitynet

pytest.importorskip('mmaction')

from mmaction.datasets.transforms import SampleFrames

from mmskip.datasets import ActionFrameDataset, ActionVideoDataset
from mmskip.datasets.action_videos import BrokenVideoError

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'toy'
    return make_toy_activitynet(
        root, train_videos=2, test_videos=4, frames=24, size=(64, 64)
    )


@pytest.fixture
def cfg(toy):
    cfg = Config.fromfile(CONFIGS / 'toy_activitynet.py')
    for name in ('train', 'test'):
        dataset = cfg[f'{name}_dataloader'].dataset
        dataset.data_root = str(toy)
        dataset.metainfo.classes = str(toy / 'classes.txt')
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield cfg


@pytest.fixture
def broken(cfg, toy, tmp_path):
    """The test set with the second video cut short in its header."""
    lines = (toy / 'val_list_videos.txt').read_text().splitlines()
    bad = tmp_path / 'bad.mp4'
    bad.write_bytes((toy / 'videos/v_toyv0000001.mp4').read_bytes()[:200])
    lines[1] = f'{bad} 5'
    (tmp_path / 'list.txt').write_text('\n'.join(lines) + '\n')
    cfg.test_dataloader.dataset.ann_file = str(tmp_path / 'list.txt')
    return cfg


def test_batches_are_16_frames_and_name_their_video(cfg):
    loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    batch = next(iter(loader))
    assert batch['inputs'][0].shape == (16, 3, 64, 64)
    (sample,) = batch['data_samples']
    assert sample.video_id == 'v_toyv0000000.mp4'
    assert sample.total_frames == 24
    expected = [int((i + 0.5) * 24 / 16) for i in range(16)]
    assert sample.frame_inds.tolist() == expected
    assert len(loader.dataset.metainfo['classes']) == 8


@pytest.mark.parametrize('frames', [1, 3, 9, 15, 16, 17, 31, 40, 1000])
@pytest.mark.parametrize('part', ['train', 'test'])
def test_one_frame_of_each_sixteenth_however_few_there_are(cfg, part, frames):
    load = cfg[f'{part}_dataloader'].dataset.pipeline[1]
    sampler = SampleFrames(**{k: v for k, v in load.items() if k != 'type'})
    for _ in range(5):
        results = dict(total_frames=frames, start_index=0)
        found = sampler.transform(results)['frame_inds']
        # A frame may begin in one sixteenth and end in another.
        edges = np.arange(17) * frames / 16
        assert (found >= np.floor(edges[:-1])).all()
        assert (found < np.ceil(edges[1:])).all()


def test_a_broken_video_ends_the_run_and_is_named(broken):
    dataset = Runner.build_dataloader(broken.test_dataloader, seed=0).dataset
    with pytest.raises(BrokenVideoError, match=r"bad\.mp4.*on_broken='skip'"):
        dataset[1]


def test_a_broken_video_can_be_left_out_of_a_test(broken):
    broken.test_dataloader.dataset.on_broken = 'skip'
    loader = Runner.build_dataloader(broken.test_dataloader, seed=0)
    with pytest.warns(UserWarning, match=r'bad\.mp4: .*left out'):
        batches = list(loader)
    samples = [batch['data_samples'][0] for batch in batches]
    assert ['broken' in s for s in samples] == [False, True, False, False]
    assert samples[1].video_id.endswith('bad.mp4')
    assert samples[1].gt_label.tolist() == [5]
    assert batches[1]['inputs'][0].equal(batches[2]['inputs'][0])


def test_training_draws_another(broken):
    dataset = dict(broken.test_dataloader.dataset)
    dataset.update(on_broken='skip', test_mode=False)
    del dataset['type']
    made = ActionVideoDataset(**dataset)
    with pytest.warns(UserWarning, match='left out'):
        data = made[1]
    assert not data['data_samples'].video_id.endswith('bad.mp4')


def test_when_all_are_broken_the_pipeline_is_to_blame(cfg, tmp_path):
    dataset = dict(cfg.test_dataloader.dataset, on_broken='skip')
    del dataset['type']
    dataset['data_prefix'] = dict(video=str(tmp_path))
    with (
        pytest.warns(UserWarning, match='left out'),
        pytest.raises(BrokenVideoError, match=r'9 in a row.*data_prefix'),
    ):
        ActionVideoDataset(**dataset)[0]


def listed(tmp_path, text, kind=ActionVideoDataset, **options):
    (tmp_path / 'list.txt').write_text(text)
    return kind(ann_file=str(tmp_path / 'list.txt'), pipeline=[], **options)


def test_several_labels_become_ones(tmp_path):
    made = listed(tmp_path, 'a.mp4 0 2\n', multi_class=True, num_classes=4)
    assert made.get_data_info(0)['label'].tolist() == [1, 0, 1, 0]


def test_frames_without_labels_have_none(tmp_path):
    made = listed(
        tmp_path,
        'a 7\nb 8 3\n',
        ActionFrameDataset,
        multi_class=True,
        num_classes=4,
    )
    labels = [made.get_data_info(n)['label'].tolist() for n in (0, 1)]
    assert labels == [[0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ('text', 'options', 'match'),
    [
        ('a.mp4 4\n', dict(num_classes=4), r'labels 0..3 .* got \[4\]'),
        ('a.mp4 2\n', dict(metainfo=dict(classes=['x', 'y'])), '2 classes'),
        ('a.mp4 0 1\n', {}, 'multi_class=True'),
        ('a.mp4 x\n', {}, 'path label'),
        ('a.mp4 0\n', dict(on_broken='ignore'), "got 'ignore'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, text, options, match):
    with pytest.raises(ValueError, match=match):
        listed(tmp_path, text, **options)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='dataset_converters'):
        ActionVideoDataset(ann_file=str(tmp_path / 'no.txt'), pipeline=[])


@pytest.mark.parametrize(
    ('kind', 'text', 'line'),
    [
        (ActionVideoDataset, 'a.mp4 1\nb.mp4\n', 2),
        (ActionVideoDataset, 'a.mp4 1\nb.mp4 -1\n', 2),
        (ActionVideoDataset, 'a.mp4 1\n\n', 2),
        (ActionVideoDataset, 'a.mp4 1\nmy video.mp4 1\n', 2),
        (ActionVideoDataset, 'a.mp4 -2\n', 1),
        (ActionVideoDataset, 'a.mp4 1.5\n', 1),
        (ActionFrameDataset, 'a 7 0\nb 7\n', 2),
        (ActionFrameDataset, 'a 7 0\nb 0 0\n', 2),
        (ActionFrameDataset, 'a -7 0\n', 1),
        (ActionFrameDataset, 'a\n', 1),
        (ActionVideoDataset, '', None),
    ],
)
@pytest.mark.parametrize('test_mode', [False, True])
def test_lines_are_refused_by_number(tmp_path, kind, text, line, test_mode):
    """A missing label would be -1, the last class."""
    place = f'line {line}: ' if line else 'expected lines'
    with pytest.raises(InputError, match=rf'list\.txt: {place}'):
        listed(tmp_path, text, kind, test_mode=test_mode)


def test_lists_to_predict_may_have_no_labels(tmp_path):
    with pytest.warns(UserWarning, match='none of 2 lines has a label'):
        made = listed(tmp_path, 'a.mp4\nb.mp4\n', test_mode=True)
    assert len(made) == 2
    with pytest.raises(InputError, match='2 of 2 lines without one'):
        listed(tmp_path, 'a.mp4\nb.mp4\n')


def test_lines_that_list_a_video_again_are_counted(tmp_path):
    with pytest.warns(UserWarning, match=r"1 lines .*'a\.mp4' .* 1 and 3"):
        made = listed(tmp_path, 'a.mp4 0\nb.mp4 1\na.mp4 1\n')
    assert len(made) == 3
    parts = listed(
        tmp_path,
        'a 0 9 1\na 9 9 1\n',
        ActionFrameDataset,
        with_offset=True,
    )
    assert [parts.get_data_info(n)['offset'] for n in (0, 1)] == [0, 9]
