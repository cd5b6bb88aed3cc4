"""The other models work where mmdet is not installed or is broken."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
{spoil}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmskip.models
    from mmskip.registry import MODELS
assert MODELS.get('mmskip.KeyframeModel') is not None
assert MODELS.get('mmskip.FeatureFlowModel') is not None
assert not hasattr(mmskip.models, 'EfficientDetHead')
print([str(w.message) for w in caught if 'EfficientDetHead' in str(w.message)])
"""


def run(spoil):
    return subprocess.run(
        [sys.executable, '-c', PROGRAM.format(spoil=spoil)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_without_mmdet_nobody_is_warned():
    assert run("sys.modules['mmdet'] = None").strip() == '[]'


def test_a_broken_mmdet_is_told(tmp_path):
    pytest.importorskip('mmdet')
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text("assert 0, 'MMCV==9 is used'")
    out = run(f'sys.path.insert(0, {str(tmp_path)!r})')
    assert 'cannot be imported (MMCV==9 is used)' in out
