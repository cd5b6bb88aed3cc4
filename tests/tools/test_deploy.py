"""The unit for systemd and the Dockerfile."""

import configparser
import re
import subprocess

from mmskip.apis.errors import EXIT_INTERRUPTED, EXIT_MISTAKE
from tests.tools.conftest import ROOT, TOOLS

DOCKERFILE = TOOLS / 'deploy' / 'Dockerfile'


def instructions():
    text = re.sub(r'^#.*\n', '', DOCKERFILE.read_text(), flags=re.M)
    lines = text.replace('\\\n', ' ').splitlines()
    return [line.split(maxsplit=1) for line in lines if line]


def test_the_service_knows_the_exit_codes():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(TOOLS / 'deploy' / 'mmskip.service')
    service = unit['Service']
    assert service['ExecStart'].split()[0].endswith('/.venv/bin/mmskip')
    assert service['ExecStart'].split()[1] == 'stream'
    assert int(service['SuccessExitStatus']) == EXIT_INTERRUPTED
    assert int(service['RestartPreventExitStatus']) == EXIT_MISTAKE
    assert service['KillSignal'] == 'SIGTERM'


def test_the_container_is_set_up_by_the_script_that_tests_use():
    steps = instructions()
    assert steps[0] == ['FROM', 'python:3.11-slim-bookworm']
    assert steps.index(['COPY', '. .']) < steps.index(
        ['RUN', 'tools/setup_env.sh']
    )
    assert 'tools/setup_env.sh' in (ROOT / 'Makefile').read_text()
    for name, value in steps:
        if name == 'RUN':
            subprocess.run(['bash', '-n', '-c', value], check=True)


def test_what_is_built_here_stays_out_of_the_image():
    left_out = DOCKERFILE.with_name('Dockerfile.dockerignore').read_text()
    assert {'.git', '.venv*', 'mmskip/.mim'} <= set(left_out.split())
