"""The doctor says what works and how to mend the rest."""

import io
import json
import sys

import pytest
from rich.console import Console

from mmskip import doctor
from mmskip.doctor import Component, Problem, Report

HEALTHY = {
    'torch': (('torch', '2.13.0+cpu'),),
    'torchvision': (('torchvision', '0.28.0'),),
    'numpy': (('numpy', '1.26.4'),),
    'cv2': (('opencv-python', '4.11.0.86'),),
    'mmengine': (('mmengine', '0.10.7'),),
    'mmcv': (('mmcv', '2.1.0'),),
    'mmdet': (('mmdet', '3.3.0'),),
    'mmpose': (('mmpose', '1.3.2'),),
    'mmaction': (('mmaction2', '1.2.0'),),
}


def examine(errors=None, **changed):
    """Components of a healthy installation, but for what is changed."""
    errors = errors or {}
    return doctor.examine(
        HEALTHY | changed, trial=lambda module: errors.get(module, '')
    )


def report_of(components):
    problems = tuple(doctor.diagnose(components))
    return Report('3.11.7', '0.1.0', 'reference', components, problems)


def show(report):
    text = io.StringIO()
    doctor.print_report(report, Console(file=text, width=100))
    return text.getvalue()


def test_healthy_installation_has_no_problems():
    report = report_of(examine())
    assert report.healthy
    assert report.problems == ()
    assert 'Usable: mmdet, mmpose, mmaction.' in show(report)


def test_missing_host_is_no_problem():
    report = report_of(examine(mmpose=()))
    assert report.healthy
    assert report.as_dict()['hosts'] == {
        'mmdet': True,
        'mmpose': False,
        'mmaction': True,
    }
    assert 'not installed' in show(report)


def test_what_is_not_installed_is_not_tried():
    tried = []
    doctor.examine(HEALTHY | {'mmpose': ()}, trial=tried.append)
    assert 'mmdet' in tried
    assert 'mmpose' not in tried


def test_broken_host_hides_no_other():
    report = report_of(examine({'mmdet': "No module named 'shapely'"}))
    assert not report.healthy
    hosts = report.as_dict()['hosts']
    assert hosts == {'mmdet': False, 'mmpose': True, 'mmaction': True}
    (problem,) = report.problems
    assert problem.fix == 'pip install shapely'


@pytest.mark.parametrize(
    ('module', 'error', 'fix'),
    [
        (
            'mmcv',
            "ModuleNotFoundError: No module named 'mmcv._ext'",
            doctor.MMCV_BUILD,
        ),
        (
            'mmcv',
            'ImportError: site-packages/mmcv/_ext.so: undefined symbol: x',
            doctor.MMCV_BUILD,
        ),
        ('mmcv', 'the interpreter died of signal 11', doctor.MMCV_BUILD),
        (
            'mmdet',
            'AssertionError: MMCV==2.2.0 is used but incompatible.',
            doctor.MMCV_BUILD,
        ),
        (
            'mmpose',
            'ValueError: numpy.dtype size changed, may indicate binary',
            "pip install 'numpy<2'",
        ),
        (
            'cv2',
            'ImportError: libGL.so.1: cannot open shared object file',
            'apt-get install libgl1 libglib2.0-0',
        ),
        (
            'mmdet',
            "ModuleNotFoundError: No module named 'cv2'",
            'pip install opencv-python',
        ),
        ('mmaction', 'KeyError: x', 'see all of it: python -c'),
    ],
)
def test_error_leads_to_its_fix(module, error, fix):
    (problem,) = doctor.diagnose(examine({module: error}))
    assert problem.fatal
    assert error in problem.what
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    ('version', 'fix'),
    [
        (
            '2.13.0+cpu',
            (
                '--index-url https://download.pytorch.org/whl/cpu '
                'torchvision==0.28.0'
            ),
        ),
        ('2.12.1', '--no-deps torchvision==0.27.0'),
    ],
)
def test_torchvision_of_another_torch_is_a_note(version, fix):
    components = examine({'torchvision': 'x'}, torch=(('torch', version),))
    report = report_of(components)
    (problem,) = report.problems
    assert report.healthy
    assert problem.fix.endswith(fix)
    assert f'torch {version}' in problem.what


def test_second_opencv_is_a_note():
    both = (('opencv-contrib-python', '4.10.0'), ('opencv-python', '4.11.0'))
    report = report_of(examine(cv2=both))
    (problem,) = report.problems
    assert report.healthy
    assert problem.fix == (
        'pip uninstall -y opencv-contrib-python opencv-python && '
        'pip install --no-deps opencv-python==4.11.0'
    )


def test_missing_pkg_resources_is_a_note(monkeypatch, tmp_path):
    (tmp_path / '.mim').mkdir()
    (tmp_path / '.mim' / 'model-index.yml').touch()
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    (problem,) = doctor.diagnose_install(tmp_path)
    assert problem.fix == "pip install 'setuptools<81'"
    assert not problem.fatal


def test_missing_configs_are_a_note(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'pkg_resources', sys)
    (problem,) = doctor.diagnose_install(tmp_path / 'mmskip')
    assert problem.fix.endswith(f'-e {tmp_path}')


@pytest.mark.parametrize(
    ('trial', 'error'),
    [
        ('pass', ''),
        ('import no_such_module', "ModuleNotFoundError: No module named 'no"),
        ('import os; os.abort()', 'the interpreter died of signal 6'),
        ('raise SystemExit(3)', 'exit status 3'),
        ('raise ValueError("a\\nb")', 'ValueError: a'),
    ],
)
def test_trial_says_what_went_wrong(monkeypatch, trial, error):
    monkeypatch.setitem(doctor.TRIALS, 'cv2', trial)
    found = doctor.try_module('cv2')
    assert found.startswith(error)
    assert bool(found) == bool(error)


def test_every_problem_is_printed_with_its_fix():
    problems = (
        Problem('one [thing]', 'do this', fatal=True),
        Problem('another', 'do that', fatal=False),
    )
    text = show(Report('3.11.7', '0.1.0', 'reference', (), problems))
    for line in ('problem: one [thing]', 'fix: do this', 'note: another'):
        assert line in text
    assert 'Usable' not in text


@pytest.mark.parametrize(('error', 'status'), [('', 0), ('x', 1)])
def test_command_reports_by_its_status(monkeypatch, capsys, error, status):
    monkeypatch.setattr(
        doctor,
        'make_report',
        lambda: report_of(examine({'mmdet': error})),
    )
    assert doctor.main(['--json']) == status
    found = json.loads(capsys.readouterr().out)
    assert found['healthy'] == (status == 0)
    assert found['backend'] == 'reference'
    assert doctor.main([]) == status
    assert 'ops backend: reference' in capsys.readouterr().out


def test_this_environment_is_examined(monkeypatch):
    monkeypatch.setattr(
        doctor,
        'examine',
        lambda found: tuple(Component(m, found[m]) for m in doctor.MODULES),
    )
    report = doctor.make_report()
    versions = {c.module: c.version for c in report.components}
    assert versions['torch']
    assert versions['mmengine']
