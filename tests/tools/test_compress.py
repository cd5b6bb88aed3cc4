"""A compressed model is written, tested and trained by the tools."""

import json
from pathlib import Path

import pytest
import torch

import mmskip
from mmskip.apis import init_model, load_config
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from mmskip.compression import FactorizedConv
from mmskip.skip_conv import SkipConv2d

SHAPE = ('--shape', '1', '3', '96', '128')


@pytest.fixture
def compressed(request, setup, load_tool, tmp_path):
    """Config and checkpoint that the tool wrote."""
    method = getattr(request, 'param', 'spatial_svd')
    argv = ['--method', method, '--macs', '0.4', '--out', tmp_path]
    argv = [setup.config, setup.checkpoint, *SHAPE, *argv]
    assert load_tool('compress').main([str(a) for a in argv]) == EXIT_OK
    path = tmp_path / f'tiny_{method}-0.4.py'
    return path, path.with_suffix('.pth')


both_methods = pytest.mark.parametrize(
    'compressed', ['spatial_svd', 'weight_svd'], indirect=True
)


def cost(model):
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad(), mmskip.count_macs(model) as macs:
        outputs = model(image, None, mode='tensor')
    assert macs.uncounted() == {}
    return macs.total(), outputs


@both_methods
def test_the_written_model_keeps_the_budget(setup, compressed):
    model = init_model(*compressed)
    plain, _ = cost(init_model(setup.config))

    total, _ = cost(model)

    assert total.dense == plain.executed
    assert 0.39 * plain.executed < total.executed <= 0.4 * plain.executed
    layers = [m for m in model.modules() if isinstance(m, FactorizedConv)]
    assert layers
    # The config's own conversion holds for the factors.
    assert all(type(layer.first) is SkipConv2d for layer in layers)


@both_methods
def test_the_plain_checkpoint_gives_the_same_model(setup, compressed):
    """The ranks are in the config: the factors follow from the weights."""
    torch.manual_seed(1)
    image = torch.randn(1, 3, 96, 128)
    models = [
        init_model(compressed[0], p) for p in (compressed[1], setup.checkpoint)
    ]
    with torch.no_grad():
        a, b = (m(image, None, mode='tensor') for m in models)
    assert all(map(torch.equal, a[0], b[0]))


def test_the_tools_test_and_train_it(compressed, load_tool, tmp_path):
    config, checkpoint = map(str, compressed)
    out = tmp_path / 'metrics.json'

    code = load_tool('test').main([config, checkpoint, '--out', str(out)])

    assert code == EXIT_OK
    metrics = json.loads(out.read_text())
    assert metrics['cost/reduction'] > 1 / 0.4

    assert load_tool('train').main([config, '--no-validate']) == EXIT_OK
    (folder,) = Path('work_dirs').glob('tiny_*')
    trained = folder / 'iter_2.pth'
    assert load_tool('test').main([config, str(trained)]) == EXIT_OK


def test_a_plain_config_becomes_a_converted_one(setup, load_tool, tmp_path):
    cfg = load_config(setup.config)
    cfg.model.type = cfg.model.pop('arch')
    cfg.model.pop('conversions')
    cfg.pop('custom_imports')
    cfg.dump('plain.py')
    argv = ['plain.py', setup.checkpoint, *SHAPE, '--macs', '0.5']

    code = load_tool('compress').main([*map(str, argv), '--out', 'out'])

    assert code == EXIT_OK
    written = load_config('out/plain_spatial_svd-0.5.py')
    assert written.custom_imports.imports == ['mmskip']
    (conversion,) = written.model.conversions
    assert conversion.type == 'mmskip.SVDConversion'
    init_model(written, 'out/plain_spatial_svd-0.5.pth')


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['--macs', '0.001', *SHAPE], 'choose a larger share'),
        (['--macs', '0.5'], 'give it with --shape'),
        (['--macs', '0.5', '--shape', '3', '9'], 'choose another --shape'),
    ],
)
def test_a_mistake_is_one_line(setup, load_tool, capsys, options, text):
    tool = load_tool('compress')
    argv = [setup.config, setup.checkpoint, *options, '--out', 'out']

    code = run_tool(tool.main, 'compress', [str(a) for a in argv])

    assert code == EXIT_MISTAKE
    assert text in capsys.readouterr().err
    assert not Path('out').exists()


def test_a_compressed_config_is_not_compressed_again(
    compressed, load_tool, capsys
):
    tool = load_tool('compress')
    argv = [*compressed, *SHAPE, '--macs', '0.3', '--out', 'out']

    assert run_tool(tool.main, 'compress', [str(a) for a in argv])
    assert 'SVDConversion already' in capsys.readouterr().err


def test_factors_of_other_ranks_are_refused(compressed, load_tool, capsys):
    cfg = load_config(compressed[0])
    ranks = cfg.model.conversions[0].ranks
    name = next(name for name, rank in ranks.items() if rank > 1)
    ranks[name] -= 1
    cfg.dump('other.py')

    code = run_tool(
        load_tool('test').main, 'test', ['other.py', str(compressed[1])]
    )

    assert code == EXIT_MISTAKE
    assert f'the first factor of {name}' in capsys.readouterr().err
