"""The doctor says what works and how to mend the rest."""

import json
import sys

import pytest

from mmskip import doctor


@pytest.fixture
def errors(monkeypatch):
    """What the trials of packages find, in place of running them."""
    found = {}
    monkeypatch.setattr(doctor, 'try_package', lambda p: found.get(p, ''))
    monkeypatch.setattr(
        doctor.importlib.metadata,
        'distributions',
        lambda: [
            type('Installed', (), dict(name=p, version='1.0'))
            for p in doctor.TRIALS
            if p != 'mmpose'
        ],
    )
    return found


def test_a_broken_host_hides_no_other_and_one_that_is_missing_is_fine(
    errors, capsys
):
    assert doctor.main([]) == 0
    assert 'Usable: mmdet, mmaction.' in capsys.readouterr().out
    errors['mmdet'] = "No module named 'shapely'"

    assert doctor.main(['--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert report['hosts'] == {
        'mmdet': False,
        'mmpose': False,
        'mmaction': True,
    }
    assert report['problems'][0]['fix'] == 'pip install shapely'
    assert report['environment']['MMEngine']
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "problem: mmdet: No module named 'shapely'" in text
    assert 'fix: pip install shapely' in text


def test_torchvision_of_another_torch_is_a_note(errors, capsys):
    errors['torchvision'] = "RuntimeError: Couldn't load custom C++ ops."

    assert doctor.main([]) == 0
    assert 'note: torchvision: Runtime' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('package', 'error', 'fix'),
    [
        ('mmcv', "No module named 'mmcv._ext'", doctor.MMCV_BUILD),
        ('mmcv', 'mmcv/_ext.so: undefined symbol: x', doctor.MMCV_BUILD),
        ('mmcv', 'the interpreter died of signal 11', doctor.MMCV_BUILD),
        (
            'mmdet',
            'AssertionError: MMCV==2.2.0 is used but incompatible.',
            doctor.MMCV_BUILD,
        ),
        ('mmpose', 'numpy.dtype size changed', "pip install 'numpy<2'"),
        ('opencv-python', 'ImportError: libGL.so.1: x', 'apt-get install li'),
        ('mmdet', "No module named 'cv2'", 'pip install opencv-python'),
        ('torchvision', 'x', doctor.TORCHVISION),
        ('mmaction2', 'KeyError: x', 'python -c "import mmskip; import mma'),
    ],
)
def test_an_error_leads_to_its_fix(package, error, fix):
    problem = doctor.diagnose(package, error)

    assert problem['fatal'] == (package != 'torchvision')
    assert error in problem['what']
    assert problem['fix'].startswith(fix)


def test_what_is_wrong_with_the_installation_is_a_note(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    monkeypatch.setattr(doctor.native, 'MISSING', 'it is not built')
    both = ['torch', 'opencv-python', 'opencv-contrib-python']

    missing, setuptools, cv2, configs = notes = doctor.installation_notes(
        tmp_path / 'mmskip', both
    )

    assert missing['what'] == 'it is not built'
    assert setuptools['fix'] == doctor.SETUPTOOLS
    assert cv2['what'].startswith('opencv-contrib-python and opencv-python')
    assert configs['fix'].endswith(f'-e {tmp_path}')
    assert not any(note['fatal'] for note in notes)


@pytest.mark.parametrize(
    ('trial', 'error'),
    [
        ('raise ValueError("a\\nb")', 'ValueError: a'),
        ('import os; os.abort()', 'the interpreter died of signal 6'),
    ],
)
def test_a_trial_says_what_went_wrong(monkeypatch, trial, error):
    monkeypatch.setitem(doctor.TRIALS, 'mmdet', trial)

    assert doctor.try_package('mmdet') == error
