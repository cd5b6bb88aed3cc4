"""What is read from data samples."""

import pytest
import torch

from mmskip.evaluation.compute_cost import read_labels, video_name


@pytest.mark.parametrize(
    ('sample', 'name'),
    [
        (dict(video_id='a', filename='b'), 'a'),
        (dict(filename='b', frame_dir='c'), 'b'),
        (dict(frame_dir='c'), 'c'),
        ({}, None),
    ],
)
def test_a_video_is_named_by_the_first_key_there_is(sample, name):
    assert video_name(sample) == name


@pytest.mark.parametrize(
    ('truth', 'labels'),
    [
        (torch.tensor([1]), (1,)),
        (torch.tensor([2, 0, 2]), (0, 2)),
        (torch.tensor([0.0, 1.0, 1.0]), (1, 2)),
        (torch.zeros(3), ()),
        (torch.tensor([1.0, 0.0, 0.0]), (0,)),
    ],
)
def test_labels_are_indices_in_order(truth, labels):
    assert read_labels(dict(gt_label=truth), 3) == labels


def test_a_negative_label_is_no_class():
    with pytest.raises(ValueError, match=r'got \[-1\]'):
        read_labels(dict(gt_label=torch.tensor([-1])), 3)
