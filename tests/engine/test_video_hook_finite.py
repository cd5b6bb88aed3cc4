"""NaN and infinity are refused where they appear."""

import pytest
import torch
from mmengine.structures import BaseDataElement

from mmskip.engine.video_hook import check_frames, check_losses
from mmskip.reading import InputError

BAD = [float('nan'), float('inf'), -float('inf')]


def batch(value, index, named=True):
    images = [torch.zeros(3, 4, 4) for _ in range(3)]
    images[index][0, 1, 2] = value
    samples = [
        BaseDataElement(metainfo=dict(img_path=f'a/{i}.jpg') if named else {})
        for i in range(3)
    ]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('value', BAD)
def test_the_frame_is_named(value):
    with pytest.raises(InputError, match=r'1 NaN or infinite .* a/2\.jpg'):
        check_frames(batch(value, 2))


def test_every_way_to_collate_is_understood():
    lists = batch(BAD[0], 1, named=False)
    stacked = dict(lists, inputs=torch.stack(lists['inputs']))
    items = [
        dict(inputs=image, data_samples=sample)
        for image, sample in zip(
            lists['inputs'], lists['data_samples'], strict=True
        )
    ]
    bare = dict(inputs=lists['inputs'])
    for data in (lists, stacked, items, bare):
        with pytest.raises(InputError, match='image 1 of the batch'):
            check_frames(data)


def test_finite_frames_and_other_batches_pass():
    integers = dict(inputs=[torch.zeros(3, 4, 4, dtype=torch.uint8)])
    for data in (batch(0.0, 0), integers, None, dict(data_samples=[]), [1]):
        check_frames(data)


@pytest.mark.parametrize('value', BAD)
def test_the_losses_and_the_iteration_are_named(value):
    bad = torch.tensor(value)
    losses = dict(loss=bad, loss_cls=torch.tensor(1.0), loss_bbox=bad)

    with pytest.raises(InputError) as error:
        check_losses(losses, 12)

    assert f'loss={value}, loss_bbox={value} in iteration 12' in str(error)


def test_finite_losses_and_other_outputs_pass():
    good = torch.tensor(1.0)
    for losses in (dict(loss=good), dict(log=BAD[0]), None, [good]):
        check_losses(losses, 1)
