"""Every config loads, stays short, is listed and describes what exists."""

import pickle
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, Registry
from torch import nn
from torch.nn.modules.conv import _ConvNd

from mmskip import registry
from mmskip.apis import import_host, load_config
from mmskip.core import CountedWhole
from mmskip.datasets.videos import all_keys
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


def counted_layers(cfg):
    """How many layers of its model count MACs of their own."""
    return count_layers(cfg.default_scope, pickle.dumps(cfg.model))


@cache
def count_layers(scope, model):
    """The same of a pickled config, as many configs have the same model.

    Weights are zeros: to draw and to factorise them takes longest.
    """
    with pytest.MonkeyPatch.context() as patch:
        for layer in (_ConvNd, nn.Linear):
            patch.setattr(layer, 'reset_parameters', fill_with_zeros)
        patch.setattr(torch.linalg, 'svd', factors_of_zeros)
        with default_scope(scope):
            built = MODELS.build(without_downloads(pickle.loads(model)))
    return sum(isinstance(m, CountedWhole) for m in built.modules())


@torch.no_grad()
def fill_with_zeros(layer):
    layer.weight.zero_()


def factors_of_zeros(matrix, full_matrices):
    assert not full_matrices
    assert not matrix.any()
    rank = min(matrix.shape)
    return matrix[:, :rank], matrix.new_zeros(rank), matrix[:rank]


def test_model_builds(cfg):
    layers = counted_layers(cfg)
    assert layers or cfg.model.type != 'mmskip.ConvertedModel'


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
    plain = load_config(variant.config)
    pytest.importorskip(import_host(plain))
    before = {key: value_at(plain, key) for key in variant.options}
    for key, value in variant.options.items():
        assert before[key] != value, key
        assert before[key] is not None or key.startswith('model.'), key
    if any(before[key] is None or 'type' in key for key in before):
        plain.merge_from_dict(variant.options)
        counted_layers(plain)


def value_at(cfg, key):
    """What a dotted key leads to, or None."""
    for part in key.split('.'):
        if isinstance(cfg, (list, tuple)):
            cfg = cfg[int(part)]
        else:
            cfg = cfg.get(part)
        if cfg is None:
            return None
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
