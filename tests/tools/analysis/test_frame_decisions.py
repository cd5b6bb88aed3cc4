"""The commands that draw frame decisions."""

import json

import cv2
import numpy as np
import pytest

from mmskip.apis import UserError


@pytest.fixture
def dump(tmp_path):
    """A metric's file, and a folder with its two videos."""
    entries = []
    for name in ('a', 'b'):
        path = tmp_path / 'videos' / f'v_{name}.mp4'
        path.parent.mkdir(exist_ok=True)
        fourcc = cv2.VideoWriter_fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(path), fourcc, 5.0, (48, 48))
        for index in range(4):
            writer.write(np.full((48, 48, 3), 60 * index, np.uint8))
        writer.release()
        entries.append(
            dict(
                video=path.name,
                labels=[0],
                scores=[0.6, 0.4],
                stops=[0, 2, -1],
                frame_inds=[0, 1, 3],
            )
        )
    report = dict(videos=entries, num_places=2, classes=['x', 'y'])
    (tmp_path / 'run').mkdir()
    path = tmp_path / 'run' / 'videos.json'
    path.write_text(json.dumps(report))
    segments = dict(
        subset='validation', annotations=[dict(label='x', segment=[0, 0.3])]
    )
    release = dict(database=dict(a=segments))
    (tmp_path / 'a.json').write_text(json.dumps(release))
    return path


def test_usage_is_printed_and_plotted(load_tool, dump, tmp_path, capsys):
    tool = load_tool('analysis/frame_usage')
    out = tmp_path / 'bars.png'
    assert tool.main([str(dump), '--out', str(out)]) == 0
    assert cv2.imread(str(out)) is not None
    line = 'run (%): res1 33.3, res2 0.0, early term. 33.3, used 33.3'
    assert line in capsys.readouterr().out


def test_bars_need_different_names(load_tool, dump):
    tool = load_tool('analysis/frame_usage')
    with pytest.raises(UserError, match='2 different names'):
        tool.main([str(dump), str(dump)])


def test_strips_are_drawn(load_tool, dump, tmp_path):
    tool = load_tool('analysis/decision_strips')
    heights = []
    for names in (['v_a'], ['v_a', 'v_b']):
        out = tmp_path / 'strips.png'
        command = [dump, '--videos', tmp_path / 'videos', '--out', out]
        command += ['--annotations', tmp_path / 'a.json', '--names', *names]
        assert tool.main([str(part) for part in command]) == 0
        heights.append(cv2.imread(str(out)).shape[0])
    assert heights[1] == 2 * heights[0]


def test_unknown_videos_are_the_users_mistake(load_tool, dump, tmp_path):
    tool = load_tool('analysis/decision_strips')
    command = [str(dump), '--videos', str(tmp_path / 'videos')]
    with pytest.raises(UserError, match='got v_c'):
        tool.main([*command, '--names', 'v_c'])
    with pytest.raises(UserError, match='expected frame 0'):
        tool.main([str(dump), '--videos', str(tmp_path)])
