"""The C++ sources compile where there is no x86."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / 'mmskip' / 'native' / 'csrc'
COMPILER = 'aarch64-linux-gnu-g++'


def test_no_source_asks_for_an_instruction_set():
    # Vectors are those of the compiler; flags choose the instructions.
    for path in CSRC.iterdir():
        included = re.findall(r'#include\s+<(.+)>', path.read_text())
        assert not [name for name in included if 'intrin' in name], path.name


@pytest.mark.skipif(not shutil.which(COMPILER), reason=f'no {COMPILER}')
@pytest.mark.parametrize('name', ['kernels_portable', 'mask'])
def test_the_portable_kernels_compile_for_aarch64(name, tmp_path):
    command = (COMPILER, '-std=c++17', '-O1', '-Wall', '-Wextra', '-Werror')
    target = tmp_path / f'{name}.o'

    subprocess.run(
        [*command, '-c', str(CSRC / f'{name}.cpp'), '-o', str(target)],
        check=True,
    )

    assert target.read_bytes()[:4] == b'\x7fELF'
