"""What needs no host works where hosts are not installed or are broken."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
{spoil}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    # Prefixed names are found although nobody has imported mmskip.
    from mmengine.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS, MODELS
    assert 'mmskip' not in sys.modules
    for registry, names in (
        (MODELS, ['SkipConv2d', 'KeyframeModel', 'FeatureFlowModel']),
        (DATA_SAMPLERS, ['VideoOrderSampler']),
        (DATASETS, ['ClipDataset']),
        (FUNCTIONS, ['clip_collate']),
    ):
        for name in names:
            found = registry.get(f'mmskip.{{name}}')
            assert found.__module__.startswith('mmskip.'), name
import mmskip.datasets, mmskip.models
assert not hasattr(mmskip.datasets, 'UADETRACDataset')
assert not hasattr(mmskip.models, 'EfficientDetHead')
for warning in caught:
    if 'mmdet' in str(warning.message):
        print(warning.message)
"""


def run(spoil):
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM.format(spoil=spoil)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_hosts_nobody_is_warned():
    absent = "sys.modules.update(dict.fromkeys(('mmcv', 'mmdet', 'mmpose')))"
    assert run(absent) == ''


def test_a_broken_host_is_told(tmp_path):
    pytest.importorskip('mmdet')
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text("assert 0, 'MMCV==9 is used'")
    told = run(f'sys.path.insert(0, {str(tmp_path)!r})')
    for missing in ('UADETRACDataset', 'EfficientDetHead'):
        (line,) = [text for text in told.splitlines() if missing in text]
        assert 'cannot be imported (MMCV==9 is used)' in line
