"""Every config loads, stays short, is listed and describes what exists."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, Registry
from torch import nn
from torch.nn.modules.conv import _ConvNd

from mmskip import registry
from mmskip.apis.config import import_host, load_config
from mmskip.datasets.video_keys import all_keys
from mmskip.layers import CountedWhole
from tests.helpers.config_pages import (
    CONFIGS,
    FOLDERS,
    STATUS,
    listed,
    variants,
)
from tests.hosts.host import default_scope, without_downloads

ROOT = CONFIGS.parent
PATHS = sorted(path for folder in FOLDERS for path in folder.glob('*.py'))
VARIANTS = [variant for folder in FOLDERS for variant in variants(folder)]
OURS = [r for r in vars(registry).values() if isinstance(r, Registry)]


def name_of(value):
    return value.stem if isinstance(value, Path) else None


@pytest.fixture(params=PATHS, ids=name_of, scope='module')
def path(request):
    for host in re.findall(r"'(mm\w+)::", request.param.read_text()):
        pytest.importorskip(host)
    return request.param


@pytest.fixture(scope='module')
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


def build(cfg):
    """The model, with whatever the memory held for weights: that is quick."""
    with pytest.MonkeyPatch.context() as patch:
        for layer in (_ConvNd, nn.Linear):
            patch.setattr(layer, 'reset_parameters', lambda self: None)
        with default_scope(cfg.default_scope):
            return MODELS.build(without_downloads(cfg.model))


def test_model_builds(cfg):
    model = build(cfg)
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


@pytest.mark.parametrize('folder', FOLDERS, ids=name_of)
def test_readme_and_metafile_list_every_config(folder):
    files = sorted(path.name for path in folder.glob('*.py'))
    rows = listed(folder)
    assert sorted(row.file for row in rows) == files
    assert [row.file for row in rows] == [f'{row.name}.py' for row in rows]
    meta = yaml.safe_load((folder / 'metafile.yml').read_text())
    collections = [collection['Name'] for collection in meta['Collections']]
    place = folder.relative_to(ROOT)
    for row, model in zip(rows, meta['Models'], strict=True):
        assert model['Name'] == row.name
        assert model['Config'] == f'{place}/{row.file}'
        assert model['In Collection'] in collections
        assert str(model['Metadata'].get('GMAC', '-')) == row.gmac
        assert row.status in STATUS
        assert model['Metadata']['Status'] == row.status.strip('*')
        assert ('Results' in model) == (row.metric != '-')


def test_names_are_unlike_each_other():
    """mim finds a config by its name alone."""
    names = [path.stem for path in PATHS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('folder', FOLDERS, ids=name_of)
def test_figures_are_those_of_the_results(folder):
    for row in listed(folder):
        if row.metric == '-':
            continue
        figures, link = re.fullmatch(r'\[(.+)\]\((.+)\)', row.metric).groups()
        file, anchor = link.split('#')
        sections = sections_of(folder / file)
        for figure in re.findall(r'\d+\.\d+x?', figures):
            assert figure in sections[anchor], (row.name, figure)


def sections_of(page):
    """The text below each heading, by the anchors that GitHub makes."""
    parts = re.split(r'^#+ (.+)$', page.read_text(), flags=re.MULTILINE)
    return {
        re.sub(r'[^a-z0-9_ -]', '', heading.lower()).replace(' ', '-'): text
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize('variant', VARIANTS, ids=lambda v: v.config.stem)
def test_options_of_a_readme_fit_their_config(variant):
    cfg = load_config(variant.config, variant.options)
    pytest.importorskip(import_host(cfg))
    if any(key.startswith('model.') for key in variant.options):
        build(cfg)
    plain = load_config(variant.config)
    for key, value in variant.options.items():
        before = value_at(plain, key, key.startswith('model.'))
        assert before != value, key


def value_at(cfg, key, may_lack):
    """What a dotted key leads to; only a model may lack it."""
    for part in key.split('.'):
        if isinstance(cfg, (list, tuple)):
            cfg = cfg[int(part)]
        elif may_lack and part not in cfg:
            return None
        else:
            cfg = cfg[part]
    return cfg


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
