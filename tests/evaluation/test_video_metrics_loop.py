"""Accuracy and cost of videos in mmengine's test loop."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmskip.toy import make_toy_activitynet

pytest.importorskip('mmaction')

FRAGMENT = (
    Path(__file__).parents[2] / 'configs/_base_/datasets/toy_activitynet.py'
)


@pytest.fixture
def cfg(tmp_path):
    root = make_toy_activitynet(
        tmp_path / 'toy',
        train_videos=0,
        test_videos=3,
        frames=20,
        size=(64, 64),
    )
    cfg = Config.fromfile(FRAGMENT)
    dataset = cfg.test_dataloader.dataset
    dataset.data_root = str(root)
    dataset.metainfo.classes = str(root / 'classes.txt')
    for key in list(cfg):
        if key.startswith(('train', 'val')):
            cfg.pop(key)
    cfg.model = dict(
        type='Recognizer2D',
        backbone=dict(type='ResNet', depth=18, norm_eval=False),
        cls_head=dict(
            type='TSNHead',
            num_classes=8,
            in_channels=512,
            average_clips='prob',
        ),
        data_preprocessor=dict(
            type='ActionDataPreprocessor',
            mean=[123.0, 117.0, 104.0],
            std=[58.0, 57.0, 57.0],
            format_shape='NCHW',
        ),
    )
    cfg.test_cfg = dict(type='TestLoop')
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = tmp_path.name
    cfg.log_level = 'ERROR'
    cfg.test_evaluator[1].out_file = str(tmp_path / 'videos.json')
    return cfg


def test_accuracy_and_cost_stand_in_one_table(cfg, tmp_path):
    bad = tmp_path / 'toy/videos/v_toyv0000001.mp4'
    bad.write_bytes(bad.read_bytes()[:300])
    cfg.test_dataloader.dataset.on_broken = 'skip'
    with pytest.warns(UserWarning, match='v_toyv0000001.*left out'):
        found = Runner.from_cfg(cfg).test()
    assert found['acc/broken'] == 1
    assert found['cost/videos'] == 2
    assert found['cost/used'] == 100
    # A ResNet-18 takes 1.814 GMAC at 224 x 224; 64 x 64 is (2/7)^2 of it.
    frame = 1.8136 * (64 / 224) ** 2
    assert found['cost/gmac_per_frame'] == pytest.approx(frame, rel=0.005)
    assert found['cost/gmac_per_video'] == pytest.approx(
        16 * found['cost/gmac_per_frame']
    )
    assert found['cost/ms_per_video'] > 0
    report = json.loads((tmp_path / 'videos.json').read_text())
    videos = [video['video'] for video in report['videos']]
    assert videos == ['v_toyv0000000.mp4', 'v_toyv0000002.mp4']
    assert report['videos'][0]['stops'] == [5] * 16
    assert report['videos'][0]['total_frames'] == 20
    assert len(report['videos'][0]['frame_inds']) == 16
    assert len(report['classes']) == 8
