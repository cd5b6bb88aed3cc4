"""Motion compensation measured on synthetic pans, by a tiny detector."""

import csv
import json

import pytest

from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool

pytest.importorskip('mmdet')

FAST = ('--frames', '3', '--size', '128', '96', '--at', '0.001')


@pytest.fixture
def analyse(load_tool, setup, tmp_path):
    def run(*options, config=setup.config):
        arguments = [config, '--out', tmp_path / 'out', *FAST, *options]
        tool = load_tool('analysis/motion')
        tool.FACTORS = (1 / 32, 1.0)
        return run_tool(tool.main, 'motion', list(map(str, arguments)))

    return run


def test_a_still_camera_costs_the_same_and_a_pan_costs_less(
    analyse, setup, tmp_path
):
    options = ('--steps', '0', '32,0', '--cfg-options')
    memory = 'model.conversions.0.memory=accumulated'
    assert analyse(*options, memory) == EXIT_OK
    out = tmp_path / 'out'
    rows = list(csv.DictReader((out / 'motion.csv').open()))
    found = {
        (float(r['step_x']), r['method'], float(r['factor'])): r for r in rows
    }
    for factor in (1 / 32, 1.0):
        plain, whole, interpolated = (
            found[0.0, method, factor]
            for method in ('plain residual', 'whole steps', 'interpolated')
        )
        # Up to rounding: it is the other backend.
        for other in (whole, interpolated):
            for key in ('error', 'share'):
                expected = pytest.approx(float(plain[key]), rel=1e-3)
                assert float(other[key]) == expected
        moving = [
            float(found[32.0, method, factor]['share'])
            for method in ('plain residual', 'whole steps')
        ]
        assert moving[1] < 0.98 * moving[0]
    report = json.loads((out / 'motion.json').read_text())
    assert [row['step'] for row in report['compared']] == [[0, 0], [32, 0]]
    assert (out / 'motion.png').stat().st_size


def test_interpolation_is_left_out_where_it_is_refused(analyse, tmp_path):
    assert analyse('--steps', '4') == EXIT_OK
    rows = list(csv.DictReader((tmp_path / 'out/motion.csv').open()))
    methods = {row['method'] for row in rows}
    assert methods == {'plain residual', 'whole steps'}


def test_mistakes_end_with_a_message(analyse, setup, capsys, tmp_path):
    assert analyse('--frames', '1') == EXIT_MISTAKE
    assert '2 --frames or more' in capsys.readouterr().err
    config = tmp_path / 'dense.py'
    config.write_text(
        f'_base_ = {str(setup.config)!r}\n'
        "model = dict(conversions=[dict(type='mmskip.SkipConversion', "
        "gate=dict(type='mmskip.GumbelGate'))])\n"
    )
    assert analyse(config=config) == EXIT_MISTAKE
    assert 'with a norm gate' in capsys.readouterr().err
