"""Models as tools/benchmarks/recognition_speed.py times them."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from mmskip.plan import PlanarConv3d

pytest.importorskip('mmaction.models')

CONFIGS = Path(__file__).parents[2] / 'configs'
DYNAMIC = 'toy/va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
SOF = 'toy/sof_r18-w16_16f-16e_toy-activitynet.py'


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/recognition_speed')


def make(tool, *options):
    args = tool.parse_args([f'dynamic={CONFIGS / DYNAMIC}', *options])
    torch.manual_seed(0)
    return tool.make_model(args.models[0], args).eval()


def test_accelerated_models_are_those_of_mmskip(tool):
    plain, folded = make(tool), make(tool, '--accelerate')
    kinds = [
        {type(module) for module in model.modules()}
        for model in (plain, folded)
    ]
    assert PlanarConv3d in kinds[1] - kinds[0]
    norms = [
        [m for m in model.backbone.modules() if isinstance(m, _BatchNorm)]
        for model in (plain, folded)
    ]
    # Those of the gates stand behind a linear layer and are folded, too.
    assert norms[0]
    assert not norms[1]
    clips = torch.randn(1, 1, 3, 8, 32, 32)
    with torch.no_grad():
        first, second = (
            model(clips, None, mode='tensor', stage='head')
            for model in (plain, folded)
        )
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ('models', 'message'),
    [
        (['a=x.py', 'a=y.py'], 'a name of its own'),
        (['a=nowhere.py'], 'nowhere.py'),
    ],
)
def test_mistakes_are_told(tool, capsys, models, message):
    assert run_tool(tool.main, 'speed', models) == EXIT_MISTAKE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('used', [0.0, 0.3, 0.543, 1.0])
def test_drawn_decisions_have_the_frame_usage(tool, used):
    ended = min(0.134, 1 - used)
    stops = tool.draw_stops(16, 16, used, ended)
    assert stops == tool.draw_stops(16, 16, used, ended)
    flat = [stop for row in stops for stop in row]
    assert len(stops) == len(stops[0]) == 16
    assert flat.count(5) == round(used * 256)
    assert flat.count(-1) == round(ended * 256)
    for row in stops:
        examined = row.index(-1) if -1 in row else 16
        assert examined >= 4
        assert set(row[examined:]) <= {-1}


def test_a_replay_is_timed_and_written(tool, tmp_path, capsys):
    sof = CONFIGS / SOF
    argv = [
        f'all={sof}', f'sof={sof}', '--noise', '4', '32', '--videos', '2',
        '--batch-sizes', '2', '--repeats', '1', '--used', '0.5', '--ended',
        '0.25', '--accelerate', '--clock', 'cpu', '--out', str(tmp_path),
    ]  # fmt: skip
    assert tool.main(argv) == EXIT_OK
    result = json.loads((tmp_path / 'speed.json').read_text())
    assert result['clock'] == 'cpu'
    assert sum(row.count(5) for row in result['stops']) == 4
    first, second = result['rows']
    assert first['gmac'] == second['gmac'] > 0
    assert 'sof' in capsys.readouterr().out


def test_more_than_all_frames_are_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['a=b.py', '--used', '0.9', '--ended', '0.2'])
    assert 'at most 1 in sum' in capsys.readouterr().err
