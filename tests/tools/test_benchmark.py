"""The benchmark of skipping against what users run instead."""

import csv
import json
import sys

import cv2
import numpy as np
import pytest
import torch

from mmskip.apis import UserError
from mmskip.native import library

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


KEYS = {
    *('pattern', 'active', 'mac_reduction', 'precision', 'skip_ms', 'error'),
    *('mib_per_stream', 'rivals', 'speed_up', 'fastest_rival', 'load'),
}
needs_native = pytest.mark.skipif(
    bool(library.MISSING), reason=library.MISSING
)


@pytest.fixture
def tool(load_tool):
    threads = torch.get_num_threads()
    yield load_tool('benchmark')
    torch.set_num_threads(threads)


@pytest.fixture
def run(tool, tmp_path):
    """Run the tool; return its rows and what else it wrote."""
    pytest.importorskip('mmdet')
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    common = ['--size', '64', '64', '--frames', '2', '--threads', '1']
    common += ['--rivals', 'eager', '--out', str(tmp_path)]

    def run(*options):
        tool.main([str(config), *common, *options])
        assert (tmp_path / 'benchmark.png').stat().st_size > 0
        files = (tmp_path / 'rows.json', tmp_path / 'benchmark.json')
        return tuple(json.loads(file.read_text()) for file in files)

    return run


@needs_native
def test_the_tool_writes_what_it_measured(run, tmp_path):
    rows, summary = run('--active', '0', '0.25', '1')

    assert all(set(row) == KEYS for row in rows)
    still, quarter, full = rows
    assert still['mac_reduction'] is None
    assert 2 < quarter['mac_reduction'] < 8
    assert full['mac_reduction'] == 1
    assert not any(row['load'] for row in rows)
    with (tmp_path / 'benchmark.csv').open() as file:
        found = list(csv.DictReader(file))
    assert [float(row['active']) for row in found] == [0, 0.25, 1]
    assert all(float(row['eager ms']) > 0 for row in found)
    assert sum(summary['skip_frame_ms_by_layer'].values()) > 0
    assert summary['versions']['torch'] == torch.__version__
    assert summary['threads'] == 1
    assert set(summary['cpu']) == {'name', 'flags'}


@needs_native
def test_every_precision_has_a_row_and_an_error_of_its_own(run):
    options = ('--active', '0.25', '--precision', 'float32', 'bfloat16')
    rows, summary = run(*options)

    exact, rounded = rows
    assert [row['precision'] for row in rows] == ['float32', 'bfloat16']
    assert exact['error'] < 1e-5 < 1e-4 < rounded['error'] < 0.1
    assert rounded['mib_per_stream'] < exact['mib_per_stream']
    assert set(summary['break_even']) == {'float32, blob', 'bfloat16, blob'}
    assert len(summary['best']) == 1


@needs_native
def test_the_whole_network_is_timed_up_to_its_raw_outputs(run):
    (row,), summary = run('--active', '0.25', '--part', '')

    assert row['error'] < 1e-4
    assert 'bbox_head.retina_cls' in summary['skip_frame_ms_by_layer']


def test_a_model_of_clips_is_refused_as_a_whole(tool, tmp_path):
    pytest.importorskip('mmaction')
    config = tmp_path / 'config.py'
    config.write_text("default_scope = 'mmaction'\nmodel = dict()")

    with pytest.raises(UserError, match='mmaction, which takes clips'):
        tool.main([str(config), '--part', ''])


@needs_native
def test_rivals_that_are_not_installed_are_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)

    run('--active', '0.25', '--rivals', 'onnxruntime')

    printed = capsys.readouterr().out
    assert 'missing: onnxruntime: onnxruntime is not installed' in printed
    assert 'no rival agrees as well' in printed


@needs_native
def test_everything_is_measured_again_beside_busy_neighbours(
    run, tool, monkeypatch, capsys
):
    begun = []
    neighbours = tool.busy_neighbours

    def watched(number):
        begun.append(number)
        return neighbours(1)

    monkeypatch.setattr(tool, 'busy_neighbours', watched)

    rows, _ = run('--active', '0.25', '1', '--load')

    loads = [(row['active'], row['load']) for row in rows]
    assert loads == [(0.25, False), (1, False), (0.25, True), (1, True)]
    assert begun == [tool.num_cores()]
    assert 'busy cores, float32, blob 25.0%: speed-up' in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_neighbours_end_whatever_happens(tool, error):
    begun = []

    def fail():
        with tool.busy_neighbours(2) as neighbours:
            begun.extend(neighbours)
            assert [n.poll() for n in begun] == [None, None]
            raise error

    with pytest.raises(error):
        fail()

    assert len(begun) == 2
    assert all(n.poll() is not None for n in begun)


def test_a_video_is_timed_with_real_gates(run, tmp_path):
    video = tmp_path / 'video'
    video.mkdir()
    for index in range(5):
        image = np.zeros((64, 64, 3), np.uint8)
        image[8 * index : 8 * index + 8, :8] = 255
        cv2.imwrite(str(video / f'{index}.png'), image)

    (row,), summary = run('--video', str(video))

    assert row['pattern'] == 'video'
    assert row['mac_reduction'] > 1
    assert row['active'] == pytest.approx(1 / row['mac_reduction'])
    assert summary['break_even'] == {}


def make_rows(*speed_ups, precision='float32', load=False):
    return [
        dict(
            pattern='blob',
            active=active,
            precision=precision,
            speed_up=speed_up,
            skip_ms=1.0 if precision == 'bfloat16' else 2.0,
            load=load,
        )
        for active, speed_up in speed_ups
    ]


def test_break_even_lies_between_the_rows_of_a_precision(tool):
    rows = make_rows((0.0, 5.0), (0.5, 1 / 0.8), (1.0, 1 / 1.2))
    rows += make_rows((0.0, 5.0), (1.0, 1.5), precision='bfloat16')
    rows += make_rows((0.0, 5.0), (0.5, 0.5), load=True)

    assert tool.break_even(rows, 'blob', 'float32') == pytest.approx(0.75)
    assert tool.break_even(rows, 'blob', 'bfloat16') is None


def test_rows_without_a_fair_rival_break_nowhere_even(tool):
    rows = make_rows((0.0, None), (1.0, None))

    assert tool.break_even(rows, 'blob', 'float32') is None


def test_the_fastest_precision_is_the_best_of_its_input(tool):
    slow = make_rows((0.0, 2.0), (0.5, 2.0))
    fast = make_rows((0.0, 1.5), precision='bfloat16')

    assert tool.best_rows(slow + fast) == [*fast, slow[1]]


def test_rows_are_paired_with_those_beside_neighbours(tool):
    quiet = make_rows((0.0, 2.0), (0.5, 2.0))
    loaded = make_rows((0.0, 1.0), (0.5, 1.5), load=True)

    pairs = list(zip(quiet, loaded, strict=True))
    assert tool.loaded_pairs(quiet + loaded) == pairs
