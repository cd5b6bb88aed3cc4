"""Which loaders may feed a stream, and where a stream begins anew."""

import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, pseudo_collate
from mmengine.structures import BaseDataElement
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
)

from mmskip.datasets import VideoOrderSampler
from mmskip.engine.video_hook import VideoOrder
from mmskip.reading import InputError

LENGTHS = dict(a=4, b=1, c=3)


class Frames(BaseDataset):
    """Samples that carry their annotation, or some of its keys."""

    def __init__(self, samples, keys=None):
        self.samples, self.keys = samples, keys
        super().__init__(pipeline=[self.pack])

    def load_data_list(self):
        return [dict(sample) for sample in self.samples]

    def pack(self, info):
        meta = {k: info[k] for k in self.keys or info if k in info}
        return dict(inputs=0, data_samples=BaseDataElement(metainfo=meta))


class Blind(torch.utils.data.Dataset):
    """The same without annotations that a loader could be judged by."""

    def __init__(self, *args):
        self.frames = Frames(*args)

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        return self.frames[index]


class ByAspectRatio(BatchSampler):
    """Puts every second sample aside, as batches of one shape do."""

    def __iter__(self):
        indices = list(self.sampler)
        yield from ([i] for i in indices[::2] + indices[1::2])


def videos(lengths=LENGTHS, text=int, stride=1):
    return [
        dict(video_id=video, frame_id=text(stride * frame))
        for video, length in lengths.items()
        for frame in range(length)
    ]


def make(dataset, sampler, batch=1, **options):
    return DataLoader(
        dataset, batch, sampler=sampler, collate_fn=pseudo_collate, **options
    )


def follow(loader, **options):
    """What the samples of an epoch are, and which begin a stream."""
    order = VideoOrder(loader, 'val_dataloader', **options)
    order.start()
    begins, seen = [], []
    for data in loader:
        seen += [s.metainfo for s in data['data_samples']]
        begins += order.follow(data)
    order.finish()
    return seen, begins


@pytest.fixture
def said(monkeypatch):
    """The warnings."""
    texts = []
    monkeypatch.setattr(
        'mmskip.engine.video_hook.print_log',
        lambda text, *_: texts.append(text),
    )
    return texts


@pytest.fixture
def as_rank(monkeypatch):
    """Let samplers believe in two processes."""

    def pretend(rank):
        for module in (
            'mmengine.dataset.sampler',
            'mmskip.datasets.videos',
        ):
            monkeypatch.setattr(
                f'{module}.get_dist_info', lambda rank=rank: (rank, 2)
            )

    return pretend


IN_ORDER = {
    'default': lambda d: DefaultSampler(d, shuffle=False),
    'sequential': SequentialSampler,
    'video order': VideoOrderSampler,
}


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('stride', [1, 5])
@pytest.mark.parametrize('sampler', IN_ORDER)
def test_each_video_begins_one_stream(said, sampler, stride, batch):
    dataset = Frames(videos(stride=stride))

    _, begins = follow(make(dataset, IN_ORDER[sampler](dataset), batch))

    assert begins == [True, False, False, False, True, True, False, False]
    assert not said


@pytest.mark.parametrize(
    ('interval', 'begins'),
    [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (2, [0, 2, 4, 5, 7]), (4, [0, 4, 5])],
)
def test_streams_restart_at_every_interval_of_a_video(interval, begins):
    dataset = Frames(videos())

    _, found = follow(make(dataset, None), reset_interval=interval)

    assert [index for index, begin in enumerate(found) if begin] == begins


@pytest.mark.parametrize('rank', [0, 1])
def test_whole_videos_of_a_rank_are_taken(as_rank, rank):
    as_rank(rank)
    dataset = Frames(videos())

    seen, begins = follow(make(dataset, VideoOrderSampler(dataset)))

    firsts = [m['video_id'] for m, b in zip(seen, begins, strict=True) if b]
    assert firsts == sorted({m['video_id'] for m in seen})


OUT_OF_ORDER = {
    'shuffled': lambda d: make(d, DefaultSampler(d, shuffle=True, seed=1)),
    'random': lambda d: make(d, RandomSampler(d)),
    'by aspect ratio': lambda d: DataLoader(
        d, batch_sampler=ByAspectRatio(SequentialSampler(d), 1, False)
    ),
    'a part': lambda d: make(d, [0, 1, 2]),
    'from the middle': lambda d: make(d, [2, 3, 4]),
}


@pytest.mark.parametrize('loader', OUT_OF_ORDER)
def test_other_orders_are_refused_before_the_first_frame(loader):
    order = VideoOrder(OUT_OF_ORDER[loader](Frames(videos())), 'val_loader')

    with pytest.raises(InputError, match=r'VideoOrderSampler.*val_loader'):
        order.start()


@pytest.mark.parametrize('rank', [0, 1])
@pytest.mark.parametrize('dataset', [Frames, Blind])
def test_every_second_frame_of_a_video_is_refused(as_rank, dataset, rank):
    as_rank(rank)
    dataset = dataset(videos())
    loader = make(dataset, DefaultSampler(dataset, shuffle=False))

    with pytest.raises(InputError, match='VideoOrderSampler'):
        VideoOrder(loader, 'val_dataloader').start()


def test_a_dataset_out_of_order_needs_the_sampler():
    samples = videos(dict(a=12), text=str)
    samples.sort(key=lambda sample: sample['frame_id'])  # 0, 1, 10, 11, 2
    dataset = Frames(samples)

    with pytest.raises(InputError, match="frame 10 of 'a' comes in the place"):
        follow(make(dataset, None))
    seen, begins = follow(make(dataset, VideoOrderSampler(dataset)))

    assert [m['frame_id'] for m in seen] == list(map(str, range(12)))
    assert begins == [True] + [False] * 11


def test_what_is_left_out_at_the_end_is_not_out_of_order():
    dataset = Frames(videos(dict(a=5)))

    seen, _ = follow(make(dataset, None, batch=2, drop_last=True))

    assert len(seen) == 4


@pytest.mark.parametrize('rank', [0, 1])
@pytest.mark.parametrize('shuffle', [False, True])
def test_unrelated_images_are_reference_frames_in_any_order(
    said, as_rank, shuffle, rank
):
    as_rank(rank)
    samples = [
        dict(img_id=n, img_path=f'data/coco/val2017/{n:012}.jpg')
        for n in range(5)
    ]
    dataset = Frames(samples)
    sampler = DefaultSampler(dataset, shuffle=shuffle, seed=0)

    _, begins = follow(make(dataset, sampler))

    assert begins == [True] * 3
    (text,) = said
    assert 'no two of the 5 samples are frames of one video' in text
    assert "video_key='img_path' in mmskip.VideoHook" in text


def test_folders_are_videos_if_the_key_says_so(said):
    samples = [dict(img_path=f'{v}/{n}.jpg') for v in 'ab' for n in (8, 9, 10)]
    dataset = Frames(samples)
    key = dict(video_key='img_path')

    for sampler in (None, VideoOrderSampler(dataset, **key)):
        _, begins = follow(make(dataset, sampler), **key)
        assert begins == [True, False, False] * 2
    assert not said


def test_persons_are_videos_of_their_own():
    key = ('img_path', 'raw_ann_info.track_id')
    samples = [
        dict(img_path=f'a/{frame}.jpg', raw_ann_info=dict(track_id=person))
        for frame in range(3)
        for person in range(2)
    ]
    dataset = Frames(samples)
    sampler = VideoOrderSampler(dataset, video_key=key)

    _, begins = follow(make(dataset, sampler), video_key=key)

    assert begins == [True, False, False] * 2
    with pytest.raises(InputError, match='VideoOrderSampler'):
        follow(make(dataset, None), video_key=key)
    with pytest.raises(InputError, match=r'each frame of .* once'):
        follow(make(dataset, None), video_key='img_path')


def test_hook_and_sampler_are_to_agree_on_what_a_video_is():
    samples = [dict(s, img_path=f'a/{n}') for n, s in enumerate(videos())]
    dataset = Frames(samples)
    sampler = VideoOrderSampler(dataset, 'img_path', frame_key='img_path')

    with pytest.raises(InputError, match="got 'video_id' and 'img_path'"):
        follow(make(dataset, sampler))


def test_a_key_that_the_packed_samples_lack_is_named():
    dataset = Frames(videos(), keys=('img_id',))

    with pytest.raises(InputError, match=r"'video_id'.*add it to meta_k"):
        follow(make(dataset, None))


def test_one_key_of_mixed_data_is_enough(said):
    dataset = Frames([*videos(dict(a=2)), dict(img_id=1), dict(img_id=2)])

    _, begins = follow(make(dataset, None))

    assert begins == [True, False, True, True]
    assert not said


def test_where_nothing_is_known_streams_restart_and_are_counted(said):
    order = [0, 1, 3, 2, 4, 5, 6, 1, 7]
    dataset = Blind(videos(text=str))

    _, begins = follow(make(dataset, order))

    # Frame 2 after 3, and two videos that go on after another one.
    assert [n for n, begin in enumerate(begins) if begin] == [0, 3, 4, 5, 7, 8]
    (text,) = said
    assert '3 of 9 frames' in text
    assert 'VideoOrderSampler' in text


def test_where_nothing_is_known_samples_without_a_video_are_counted(said):
    dataset = Blind(videos(), ('img_id',))

    _, begins = follow(make(dataset, None))

    assert begins == [True] * 8
    (text,) = said
    assert "8 of 8 samples did not tell their video ('video_id')" in text


@pytest.mark.parametrize('shuffle', [False, True])
def test_where_nothing_is_known_a_shuffling_sampler_is_refused(shuffle):
    dataset = Blind(videos())
    loader = make(dataset, DefaultSampler(dataset, shuffle=shuffle))

    if shuffle:
        with pytest.raises(InputError, match='DefaultSampler mixes them'):
            follow(loader)
    else:
        follow(loader)


def test_loaders_of_videos_and_frames_are_left_to_themselves(said):
    dataset = Frames(videos(dict(a=2)))
    loader = make(dataset, [(0, 0), (0, 1)])

    VideoOrder(loader, 'val_dataloader').start()

    assert not said


def test_batches_may_be_lists_of_samples():
    order = VideoOrder(None, 'val_dataloader')
    dataset = Frames(videos(dict(a=1, b=1)))
    order.start()

    assert order.follow(list(dataset)) == [True, True]


def test_each_epoch_begins_anew():
    dataset = Frames(videos(dict(a=2)))
    loader = make(dataset, None)
    order = VideoOrder(loader, 'val_dataloader')
    for _ in range(2):
        order.start()
        assert [order.follow(data) for data in loader] == [[True], [False]]
