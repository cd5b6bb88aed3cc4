import pytest

from mmskip.apis import UserError
from mmskip.experiments import split_options


def test_data_sets_tell_their_split_by_a_key_or_by_their_list():
    cfg = dict(
        train_dataloader=dict(
            dataset=dict(type='Clip', dataset=dict(type='A', split=1))
        ),
        val_dataloader=None,
        test_dataloader=dict(
            dataset=dict(
                datasets=[
                    dict(ann_file='a/test_split_1_list.txt'),
                    dict(ann_file='Sub{split}.json', split=1),
                ]
            )
        ),
    )
    assert split_options(cfg, 3) == {
        'train_dataloader.dataset.dataset.split': 3,
        'test_dataloader.dataset.datasets.0.ann_file': (
            'a/test_split_3_list.txt'
        ),
        'test_dataloader.dataset.datasets.1.split': 3,
    }


def test_a_data_set_without_splits_is_refused():
    cfg = dict(test_dataloader=dict(dataset=dict(ann_file='all.txt')))
    with pytest.raises(UserError, match='split in test_dataloader'):
        split_options(cfg, 1)
