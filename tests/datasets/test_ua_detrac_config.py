"""The dataset fragment, over a toy data set, with the stock loader."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmskip.toy import Sequences, make_toy_ua_detrac

pytest.importorskip('mmdet')

from mmdet.evaluation import CocoMetric

FRAGMENT = Path(__file__).parents[2] / 'configs/_base_/datasets/ua_detrac.py'


@pytest.fixture
def cfg(tmp_path):
    root = make_toy_ua_detrac(
        tmp_path / 'toy',
        train=Sequences(2, 4),
        test=Sequences(2, 4),
        size=(96, 64),
    )
    cfg = Config.fromfile(FRAGMENT)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
        loader.num_workers = 0
        loader.persistent_workers = False
    cfg.train_dataloader.batch_size = 2
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield cfg


def test_training_batches_are_those_of_a_stock_detector(cfg):
    cfg.train_dataloader.dataset.frame_stride = 2
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert len(loader.dataset) == 4
    batch = next(iter(loader))
    assert batch['inputs'][0].shape == (3, 64, 96)
    assert len(batch['data_samples'][0].gt_instances) > 0
    assert len(batch['data_samples'][0].ignored_instances) % 4 == 0


def test_evaluation_is_in_video_order_and_needs_no_annotation_file(cfg):
    loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    metric = CocoMetric(
        **{k: v for k, v in cfg.test_evaluator[0].items() if k != 'type'}
    )
    metric.dataset_meta = loader.dataset.metainfo
    order = []
    for batch in loader:
        (sample,) = batch['data_samples']
        order.append((sample.video_id, sample.frame_id))
        truth = sample.gt_instances
        result = dict(
            sample.to_dict(),
            pred_instances=dict(
                # Loaded after resizing: in pixels of the image on disk.
                bboxes=truth.bboxes.tensor,
                scores=truth.labels * 0 + 1.0,
                labels=truth.labels,
            ),
        )
        metric.process(batch, [result])
    assert order == [
        (video, frame)
        for video in ('MVI_95001', 'MVI_95002')
        for frame in range(4)
    ]
    assert metric.evaluate(len(order))['coco/bbox_mAP'] == 1.0
