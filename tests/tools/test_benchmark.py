"""The benchmark of skip frames against dense ones."""

import csv
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
default_scope = 'mmdet'
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=dict(
        type='ResNet', depth=18, num_stages=1, out_indices=(0,),
        strides=(1,), dilations=(1,),
        base_channels=8, init_cfg=None),
    neck=None,
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[4])))
"""


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools' / 'benchmark.py'
    spec = importlib.util.spec_from_file_location('benchmark', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(tool, folder, *options):
    """What the tool wrote."""
    pytest.importorskip('mmdet')
    config = folder / 'config.py'
    config.write_text(CONFIG)
    common = ['--size', '64', '64', '--frames', '2', '--threads', '1']
    tool.main([str(config), *common, *options, '--out', str(folder)])
    assert (folder / 'benchmark.png').stat().st_size > 0
    return json.loads((folder / 'benchmark.json').read_text())


def test_the_tool_writes_what_it_measured(tool, tmp_path):
    result = run(tool, tmp_path, '--active', '0', '0.25', '1')

    still, quarter, full = result['rows']
    assert still['mac_reduction'] is None
    assert 2 < quarter['mac_reduction'] < 8
    assert full['mac_reduction'] == 1
    with (tmp_path / 'benchmark.csv').open() as file:
        shares = [float(row['active']) for row in csv.DictReader(file)]
    assert shares == [0, 0.25, 1]
    assert sum(result['skip_frame_ms_by_layer'].values()) > 0


def test_compiled_models_are_a_pair_of_their_own(tool, tmp_path):
    # Undone after the test: the tool sets it for its process.
    with tool.inductor_config.patch(freezing=False):
        result = run(tool, tmp_path, '--active', '0.25', '--compile')

    assert [row['pair'] for row in result['rows']] == ['eager', 'compiled']
    assert len(result['best']) == 1


def test_a_video_is_timed_with_real_gates(tool, tmp_path):
    video = tmp_path / 'video'
    video.mkdir()
    for index in range(5):
        image = np.zeros((64, 64, 3), np.uint8)
        image[8 * index : 8 * index + 8, :8] = 255
        cv2.imwrite(str(video / f'{index}.png'), image)

    result = run(tool, tmp_path, '--video', str(video))

    (row,) = result['rows']
    assert row['pattern'] == 'video'
    assert row['mac_reduction'] > 1
    assert row['active'] == pytest.approx(1 / row['mac_reduction'])
