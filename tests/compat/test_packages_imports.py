"""Packages that are installed and yet cannot be imported."""

import importlib.util
import subprocess
import sys
import textwrap
from unittest import mock

import pytest

from mmskip.compat import packages as imports

# What torchvision runs on import once its library has failed to load.
BROKEN_TORCHVISION = """
import torch

@torch.library.register_fake('torchvision::nms')
def fake_nms(dets, scores, iou_threshold):
    return scores
"""


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(code, *path):
    """Run code in a fresh interpreter; ``path`` comes first in sys.path."""
    setup = f'import sys; sys.path[:0] = {[str(p) for p in path]}\n'
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', setup + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    'files',
    [{}, {'torchvision/_C.so': 'no library'}],
    ids=['library missing', 'library of another build'],
)
def test_broken_torchvision_is_imported(tmp_path, files):
    write(tmp_path, {'torchvision/__init__.py': BROKEN_TORCHVISION, **files})
    done = run(
        """
        try:
            import torchvision
        except RuntimeError as error:
            assert 'operator torchvision::nms does not exist' in str(error)
        else:
            assert False, 'it is not broken without the repair'
        import mmskip, torchvision
        from mmskip.compat import define_torchvision_schemas
        held = define_torchvision_schemas()
        assert held is not None and held is define_torchvision_schemas()
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_working_torchvision_is_left_alone(tmp_path):
    write(tmp_path, {'torchvision/__init__.py': BROKEN_TORCHVISION})
    done = run(
        """
        import torch
        library = torch.library.Library('torchvision', 'DEF')
        library.define('nms(Tensor d, Tensor s, float t) -> Tensor')
        import mmskip, torchvision
        from mmskip.compat import define_torchvision_schemas
        assert define_torchvision_schemas() is None
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_missing_torchvision_is_no_concern(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    uncached = imports.define_torchvision_schemas.__wrapped__
    assert uncached() is None
    monkeypatch.delitem(sys.modules, 'torchvision')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert uncached() is None


def test_mmaction_models_are_imported_and_drn_explains_itself():
    if importlib.util.find_spec('mmaction') is None:
        pytest.skip('mmaction2 is not installed')
    importlib.import_module('mmaction.models')
    models = importlib.import_module('mmaction.registry').MODELS
    text = 'DRN is not available: the wheel of mmaction2'
    with pytest.raises(ImportError, match=text):
        models.build(dict(type='mmaction.DRN'))


def test_existing_drn_is_preferred(tmp_path, monkeypatch):
    write(
        tmp_path,
        {
            'mmaction/__init__.py': '',
            'mmaction/models/__init__.py': '',
            'mmaction/models/localizers/__init__.py': '',
            'mmaction/models/localizers/drn/drn.py': 'class DRN: real = True',
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if 'mmaction' in name]:
            del sys.modules[name]
        imports.provide_missing_drn()
        drn = importlib.import_module('mmaction.models.localizers.drn.drn')
    assert drn.DRN.real


def test_finder_is_installed_once():
    imports.provide_missing_drn()
    imports.provide_missing_drn()
    finders = [f for f in sys.meta_path if isinstance(f, imports.DRNFinder)]
    assert len(finders) == 1
    assert finders[0].find_spec('mmaction.models', None) is None
