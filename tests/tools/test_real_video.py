"""The benchmark of trained detectors on real videos."""

import pytest


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/real_video')


def test_frames_that_only_warm_up_are_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['c.py', 'w.pth', 'v.avi', '--frames', '3'])

    assert '--frames: expected more than 3' in capsys.readouterr().err


def test_the_table_tells_the_load_and_both_times(tool, capsys):
    rivals = {'openvino f32': dict(ms=20.0, error=0.0)}
    row = dict(
        precision='bfloat16', mac_reduction=4.0, skip_ms=8.0, rivals=rivals
    )

    tool.show([row], 40, 1.25)

    text = capsys.readouterr().out
    for cell in ('40 frames', '1.2', 'bfloat16', '4.00x', '8.00', '20.00'):
        assert cell in text
    assert '2.50x' in text
