"""The other parts work where mmdet is not installed or is broken."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
{spoil}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmskip.datasets
    from mmskip.registry import DATA_SAMPLERS, DATASETS
assert DATA_SAMPLERS.get('mmskip.VideoOrderSampler') is not None
assert not hasattr(mmskip.datasets, 'UADETRACDataset')
print([str(w.message) for w in caught if 'mmdet' in str(w.message)])
"""
ABSENT = "sys.modules['mmdet'] = None"
BROKEN = """
sys.path.insert(0, {folder!r})
"""


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, '-c', program],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_without_mmdet_the_sampler_is_there_and_nobody_is_warned():
    assert run(PROGRAM.format(spoil=ABSENT)).strip() == '[]'


def test_a_broken_mmdet_is_told(tmp_path):
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text("assert 0, 'MMCV==9 is used'")
    pytest.importorskip('mmdet')
    spoil = BROKEN.format(folder=str(tmp_path))
    out = run(PROGRAM.format(spoil=spoil))
    assert 'cannot be imported (MMCV==9 is used)' in out
