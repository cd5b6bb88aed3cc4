import json

import pytest

from mmskip.apis.errors import EXIT_OK
from tests.apis.fakes import noise_frames, static_frames, write_video

SIZE = (128, 96)


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/cameras')


def test_it_tells_throughput_and_looks_at_a_long_run(
    tool, setup, tmp_path, capsys
):
    videos = [
        write_video(tmp_path / 'a.avi', static_frames(5, SIZE)),
        write_video(tmp_path / 'b.avi', noise_frames(3, SIZE)),
    ]
    out = tmp_path / 'o.json'
    argv = [setup.config, setup.checkpoint, *videos, '--frames', 5]
    argv += ['--hours', 0.01, '--fps', 1, '--out', out]
    assert tool.main([str(item) for item in argv]) == EXIT_OK
    numbers = json.loads(out.read_text())
    assert len(numbers['alone']) == 2
    assert numbers['together'] > 0
    # Two cameras of 36 frames.
    assert numbers['day'][-1]['frames'] <= 72
    assert len(numbers['day']) >= 2
    assert 'of their mean' in capsys.readouterr().out


def test_frames_go_to_and_fro_without_a_jump(tool, tmp_path):
    frames = noise_frames(3, SIZE)
    images = tool.read_images(write_video(tmp_path / 'a.avi', frames))
    assert len(images) == 4
    assert (images[3] == images[1]).all()
