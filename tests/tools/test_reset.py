"""The benchmark of the first frame of a new video."""

import pytest

from mmskip.apis import UserError


@pytest.fixture
def tool(load_tool):
    pytest.importorskip('mmdet')
    return load_tool('benchmarks/reset')


def test_a_small_model_is_timed(tool, capsys):
    name = 'yolox_nano_8xb8-300e_coco'

    assert tool.main([name, '--size', '64', '--rounds', '1']) == 0
    told = capsys.readouterr().out
    assert f'{name}: dense ' in told
    assert 'first frame of a video' in told


def test_a_name_that_is_no_config_is_refused(tool):
    with pytest.raises(UserError, match='of mmdet, got yolox_nano'):
        tool.main(['yolox_nano'])
