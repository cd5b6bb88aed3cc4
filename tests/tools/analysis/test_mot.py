"""MOTA and IDF1 of tracks that are counted by hand."""

import csv
import json
import sys

import pytest

from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool

pytest.importorskip('motmetrics')

WIDTH = 10


def rows(ids, frames=range(1, 11), x=0):
    """One box of a size that stays where it is, with an id per frame."""
    return [
        f'{frame},{number},{x},0,{WIDTH},20,1,-1,-1,-1'
        for frame, number in zip(frames, ids, strict=False)
    ]


@pytest.fixture
def score(load_tool, tmp_path, capsys):
    """Score lists of rows against others; options follow."""

    def run(truth, *results, options=()):
        tool = load_tool('analysis/mot')
        paths = []
        for number, content in enumerate((truth, *results)):
            name = 'coco.json' if isinstance(content, dict) else 'rows.txt'
            paths.append(tmp_path / f'{number}_{name}')
            text = (
                json.dumps(content)
                if isinstance(content, dict)
                else '\n'.join(content)
            )
            paths[-1].write_text(text)
        argv = [*map(str, paths), '--out', str(tmp_path / 'out'), *options]
        code = run_tool(tool.main, 'mot', argv)
        if code != EXIT_OK:
            return code, capsys.readouterr().err
        found = json.loads((tmp_path / 'out/mot.json').read_text())
        table = list(csv.DictReader((tmp_path / 'out/mot.csv').open()))
        assert [float(r['MOTA']) for r in table] == [r['MOTA'] for r in found]
        return found[0] if len(found) == 1 else found

    return run


def test_the_truth_itself_is_without_fault(score):
    truth = rows([1] * 10) + rows([2] * 10, x=50)
    found = score(truth, truth)
    assert found['MOTA'] == found['IDF1'] == found['MOTP'] == 100
    assert found['objects'] == 2
    faults = ('switches', 'fragments', 'missed', 'false')
    assert [found[name] for name in faults] == [0, 0, 0, 0]


def test_a_switch_is_one_error_of_mota_and_half_of_idf1(score):
    found = score(rows([1] * 10), rows([5] * 5 + [6] * 5))
    assert found['switches'] == 1
    assert found['MOTA'] == pytest.approx(90)
    assert found['IDF1'] == pytest.approx(50)


def test_missed_and_false_boxes_are_counted(score):
    wrong = rows([9, 9], frames=(3, 4), x=500)
    found = score(rows([1] * 10), rows([5] * 7, range(4, 11)) + wrong)
    assert (found['missed'], found['false']) == (3, 2)
    assert found['MOTA'] == pytest.approx(50)
    # 2 * 7 matches of 10 objects and 9 boxes.
    assert found['IDF1'] == pytest.approx(100 * 14 / 19)


def test_motp_is_the_mean_overlap(score):
    found = score(rows([1] * 10), rows([1] * 10, x=WIDTH / 4))
    assert found['MOTP'] == pytest.approx(100 * 0.75 / 1.25)


def test_boxes_that_overlap_less_are_false(score):
    shifted = rows([1] * 10, x=WIDTH / 4)
    found = score(rows([1] * 10), shifted, options=['--iou', '0.61'])
    assert (found['missed'], found['false']) == (10, 10)


def test_boxes_on_no_track_are_missed(score):
    found = score(rows([1] * 10), rows([-1] * 2 + [5] * 8))
    assert (found['missed'], found['false']) == (2, 0)


def test_objects_without_confidence_are_not_looked_for(score):
    ignored = [row.replace(',1,-1,-1,-1', ',0,-1,-1,-1') for row in rows([2])]
    assert score(rows([1] * 10) + ignored, rows([1] * 10))['missed'] == 0


def test_frames_are_counted_from_0(score):
    found = score(
        rows([1] * 10), rows([5] * 5 + [6] * 5), options=['--frames', '0', '5']
    )
    assert (found['MOTA'], found['switches']) == (100, 0)


def test_results_stand_in_the_order_in_which_they_were_given(score):
    found = score(rows([1] * 10), rows([1] * 10), rows([1] * 5 + [2] * 5))
    assert [row['switches'] for row in found] == [0, 1]


def coco():
    return dict(
        images=[dict(id=100 + n, frame_id=n) for n in range(10)],
        annotations=[
            dict(image_id=100 + n, instance_id=7, bbox=[0, 0, WIDTH, 20])
            for n in range(10)
        ],
    )


def test_coco_vid_is_a_truth_too(score):
    found = score(coco(), rows([5] * 10))
    assert (found['MOTA'], found['IDF1']) == (100, 100)


def test_coco_without_ids_is_refused(score):
    truth = coco()
    del truth['annotations'][0]['instance_id']
    code, text = score(truth, rows([1] * 10))
    assert code == EXIT_MISTAKE
    assert 'coco.json' in text
    assert 'instance_id' in text


@pytest.mark.parametrize(
    ('line', 'text'),
    [
        ('1,2,three,0,4,4', "got '1,2,three,0,4,4'"),
        ('1,2,3', "got '1,2,3'"),
        ('1,1,0,0,4,4', '1 twice in frame 1'),
    ],
)
def test_a_row_that_is_none_is_named(score, line, text):
    code, said = score(rows([1] * 10), [*rows([1]), line])
    assert code == EXIT_MISTAKE
    assert 'line 2' in said
    assert text in said


def test_nothing_to_find_is_refused(score):
    code, text = score(rows([1]), rows([1]), options=['--frames', '5', '9'])
    assert code == EXIT_MISTAKE
    assert 'expected objects in the frames asked for' in text


def test_what_to_install_is_said(score, monkeypatch):
    monkeypatch.setitem(sys.modules, 'motmetrics', None)
    code, text = score(rows([1]), rows([1]))
    assert code == EXIT_MISTAKE
    assert "pip install 'mmskip[cameras]'" in text
