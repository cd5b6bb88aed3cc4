"""Models as tools/benchmarks/recognition_speed.py times them."""

from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmskip.apis.errors import EXIT_MISTAKE, run_tool
from mmskip.plan import PlanarConv3d

pytest.importorskip('mmaction.models')

CONFIGS = Path(__file__).parents[2] / 'configs'
DYNAMIC = 'toy/va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/recognition_speed')


def make(tool, *options):
    args = tool.parse_args([f'dynamic={CONFIGS / DYNAMIC}', *options])
    torch.manual_seed(0)
    return tool.make_model(args.models[0], args).eval()


def test_folded_models_are_those_of_mmskip_fold(tool):
    plain, folded = make(tool), make(tool, '--fold')
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
