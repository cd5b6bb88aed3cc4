"""Every config loads, stays short and describes something that exists."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, Registry

from mmskip import registry
from mmskip.apis.config import import_host
from mmskip.datasets.video_keys import all_keys
from mmskip.layers import CountedWhole
from tests.hosts.host import default_scope, without_downloads

FOLDER = Path(__file__).parents[1] / 'configs'
PATHS = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.rglob('*.py')
    # Plans of experiments are no configs of models.
    if not {'_base_', 'analysis'} & set(path.parts)
)
OURS = [r for r in vars(registry).values() if isinstance(r, Registry)]


@pytest.fixture(params=PATHS, ids=lambda name: Path(name).stem)
def path(request):
    path = FOLDER / request.param
    for host in re.findall(r"'(mm\w+)::", path.read_text()):
        pytest.importorskip(host)
    return path


@pytest.fixture
def cfg(path):
    cfg = Config.fromfile(path)
    import_host(cfg)
    return cfg


def test_is_short(path):
    lines = [line.strip() for line in path.read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith('#')]
    assert len(code) <= 25


def test_serves_the_stock_tools(cfg):
    assert 'mmskip' in cfg.custom_imports.imports
    assert cfg.default_scope in ('mmdet', 'mmpose', 'mmaction', 'mmseg')


def test_names_only_what_is_registered(cfg):
    names = {name for name in types(cfg) if name.startswith('mmskip.')}
    assert names
    for name in names:
        assert any(r.get(name) for r in OURS if r.scope == 'mmskip'), name


def test_model_builds(cfg):
    with default_scope(cfg.default_scope):
        model = MODELS.build(without_downloads(cfg.model))
    if cfg.model.type == 'mmskip.ConvertedModel':
        assert any(isinstance(m, CountedWhole) for m in model.modules())


@pytest.mark.parametrize('part', ['val', 'test'])
def test_streams_can_tell_videos_apart(cfg, part):
    hooks = [
        registry.HOOKS.build(dict(hook))
        for hook in cfg.get('custom_hooks', [])
        if hook['type'] == 'mmskip.VideoHook'
    ]
    loader = cfg.get(f'{part}_dataloader')
    if loader is None or not hooks or hooks[0].inference == 'clip':
        pytest.skip('no stream')
    with default_scope(cfg.default_scope):
        pack = TRANSFORMS.build(loader.dataset.pipeline[-1])
    if not loader.dataset.type.startswith('Coco'):  # of unrelated images
        assert set(all_keys(hooks[0].video_key)) <= set(pack.meta_keys)
    if 'VideoOrder' in loader.sampler.type:
        key = loader.sampler.get('video_key', 'video_id')
        assert key == hooks[0].video_key


def types(cfg):
    """Every value of a key ``type``, at any depth."""
    if isinstance(cfg, (dict, Config)):
        for key, value in cfg.items():
            if key == 'type' and isinstance(value, str):
                yield value
            yield from types(value)
    elif isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from types(value)
