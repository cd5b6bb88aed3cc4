"""The set-up script, with a Python that only pretends to install things."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Writes down how it is called and answers as the real one would. The file
# `ops` stands for a mmcv whose ops run.
FAKE_PYTHON = r"""#!/bin/bash
printf '%s\n' "$*" | tr '\n' ' ' >>"$FAKE/calls"
echo >>"$FAKE/calls"
if [[ -n $FAIL_ON && "$*" == *$FAIL_ON* ]]; then
    printf '%s\n' "$FAIL_WITH"
    exit 1
fi
case "$*" in
    *implementation*) echo "${FAKE_VERSION:-3.11 cpython}" ;;
    *version_info*) echo '3 11' ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *'from mmcv.ops import nms'*) [[ -e $FAKE/ops ]] ;;
    *tools/build_mmcv.py*)
        [[ -n ${JOINED:-} ]] && echo /cache/mmcv-2.1.0-cp311.whl ;;
    *install*/cache/mmcv-*) touch "$FAKE/ops" ;;
    *--force-reinstall*mmcv==*) touch "$FAKE/ops" ;;
    *install*mmcv==*)
        if [[ -n ${BAD_CACHE:-} ]]; then
            echo '  Using cached mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
        else
            touch "$FAKE/ops"
        fi ;;
esac
"""
NO_PACKAGE = """Collecting numpy==1.26.4
  connection broken: NewConnectionError: Connection refused
ERROR: No matching distribution found for numpy==1.26.4
note: This is an issue with the package mentioned above, not pip."""


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """Runs the script in a copy of the checkout."""
    root, fake = tmp_path / 'checkout', tmp_path / 'fake'
    (root / 'tools').mkdir(parents=True)
    (fake / 'bin').mkdir(parents=True)
    tools = ('setup_env.sh', 'build_mmcv.py', 'pins.txt')
    for name in ('setup.py', *(f'tools/{name}' for name in tools)):
        shutil.copy2(ROOT / name, root / name)
    for name in ('VENV', 'PYTHON', 'TORCH_INDEX_URL', 'FORCE_CUDA'):
        monkeypatch.delenv(name, raising=False)
    python = fake / 'bin' / 'python3.11'
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)

    def set_up(**variables):
        env = {
            **os.environ,
            'FAKE': str(fake),
            'FAIL_ON': '',
            'PATH': f'{fake}/bin:{os.environ["PATH"]}',
            **variables,
        }
        (fake / 'calls').write_text('')
        done = subprocess.run(
            [root / 'tools' / 'setup_env.sh'],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        done.calls = (fake / 'calls').read_text().splitlines()
        return done

    set_up.root, set_up.fake = root, fake
    return set_up


def installs(done):
    return [call for call in done.calls if '-m pip install' in call]


def test_first_run_installs_everything_at_pinned_versions(set_up):
    done = set_up()
    assert done.returncode == 0, done.stderr
    text = '\n'.join(installs(done))
    for pin in ('torch==2.13.0', 'mmcv==2.1.0', 'setuptools==80.9.0'):
        assert f' {pin}' in text
    assert all('-c tools/pins.txt' in call for call in installs(done))
    assert done.calls[-1] == '-m mmskip.doctor '
    assert 'Ready' in done.stdout


def test_torch_comes_before_what_is_built_with_it(set_up):
    calls = installs(set_up())
    torch, mmcv, own = (
        next(i for i, call in enumerate(calls) if call.endswith(f' {name} '))
        for name in ('torch==2.13.0', 'mmcv==2.1.0', '-e .')
    )
    assert torch < mmcv < own
    for option in ('--no-build-isolation', '--no-deps', '--no-binary=mmcv'):
        assert option in calls[mmcv]


def test_mmcv_is_compiled_in_joined_units_where_that_works(set_up):
    done = set_up(JOINED='1')

    assert done.returncode == 0, done.stderr
    assert '-m tools/build_mmcv.py' not in done.calls
    assert 'tools/build_mmcv.py 2.1.0 ' in done.calls
    assert not [call for call in installs(done) if 'mmcv==' in call]


def test_second_run_does_nothing(set_up):
    set_up()
    done = set_up()
    assert done.returncode == 0
    assert done.calls == []
    assert 'up to date' in done.stdout


def test_changed_pins_are_installed_and_nothing_is_compiled(set_up):
    set_up()
    with (set_up.root / 'tools' / 'pins.txt').open('a') as pins:
        pins.write('# changed\n')
    done = set_up()
    assert installs(done)
    assert not [call for call in installs(done) if 'mmcv==' in call]


def test_failed_step_is_one_line_with_reason_and_log(set_up):
    done = set_up(FAIL_ON=' numpy', FAIL_WITH=NO_PACKAGE)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: step 'build tools' failed: ")
    assert 'No matching distribution found for numpy==1.26.4' in line
    assert '(Connection refused)' in line
    log = set_up.root / line.rpartition('log: ')[2]
    assert log.read_text().strip() == NO_PACKAGE
    assert set_up().returncode == 0, 'the next run takes up the work'


def test_failed_check_is_not_forgotten(set_up):
    wrong = {'FAIL_ON': 'mmskip.doctor', 'FAIL_WITH': 'problem: no mmdet'}
    for _ in range(2):
        done = set_up(**wrong)
        assert done.returncode == 1
        assert 'problem: no mmdet' in done.stderr


def test_cached_mmcv_without_ops_is_built_again(set_up):
    done = set_up(BAD_CACHE='1')
    assert done.returncode == 0, done.stderr
    again = [call for call in installs(done) if '--force-reinstall' in call]
    assert len(again) == 1
    assert '--no-cache-dir' in again[0]


def test_mmcv_without_ops_is_an_error(set_up):
    done = set_up(
        FAIL_ON='from mmcv.ops',
        FAIL_WITH="ModuleNotFoundError: No module named 'mmcv._ext'",
    )
    assert done.returncode == 1
    assert "'mmcv' failed: ModuleNotFoundError: No mod" in done.stderr


def test_index_of_torch_is_honoured(set_up):
    index = 'https://download.pytorch.org/whl/cpu'
    calls = installs(set_up(TORCH_INDEX_URL=index))
    chosen = [call for call in calls if f'--index-url {index}' in call]
    assert len(chosen) == 2
    assert all('torch' in call for call in chosen)


def test_other_python_is_refused(set_up):
    done = set_up(FAKE_VERSION='3.13 cpython', PYTHON='python3.11')
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'expected CPython 3.11 or 3.12, got 3.13 cpython' in line


def test_other_machine_is_refused(set_up):
    uname = set_up.fake / 'bin' / 'uname'
    uname.write_text('#!/bin/sh\necho Linux aarch64\n')
    uname.chmod(0o755)
    done = set_up()
    assert done.returncode == 1
    assert 'expected Linux on x86-64, got Linux aarch64' in done.stderr


def test_missing_compiler_is_an_error(set_up):
    folder = set_up.fake / 'few'
    folder.mkdir()
    for name in ('bash', 'dirname', 'uname', 'sha256sum', 'cut', 'cat', 'tr'):
        (folder / name).symlink_to(shutil.which(name))
    done = set_up(PATH=f'{set_up.fake}/bin:{folder}')
    assert done.returncode == 1
    assert 'gcc not found' in done.stderr
