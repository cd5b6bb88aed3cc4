"""What README.md and the pages of docs/ show exists, parses and runs.

Every fenced block is found by itself. In a ``python`` block that imports
nothing and only assigns is a config, and is built; any other runs, after
those before it on its page, in an empty folder. Commands of a ``bash`` block
are read by the parsers of the tools that they name.
"""

import argparse
import ast
import builtins
import importlib.util
import re
import shlex
import textwrap
import unicodedata
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import nn

import mmskip
from mmskip import cli, doctor
from mmskip.apis import import_host, init_model
from mmskip.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    HOOKS,
    METRICS,
    MODELS,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
LANGUAGES = {'bash', 'python', 'text'}
#: Programs of others, whose arguments are theirs.
PROGRAMS = {
    *('.', 'cd', 'docker', 'export', 'git', 'journalctl', 'pip'),
    *('python3.11', 'sudo'),
}
#: What configs of the pages inherit from: the reader's own.
YOUR_DETECTOR = """
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=18, base_channels=8, init_cfg=None),
             neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
             bbox_head=dict(in_channels=8, feat_channels=8))
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='DefaultSampler'),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(type='mmskip.UADETRACDataset', data_root='data'))
test_dataloader = dict(
    batch_size=1,
    dataset=dict(type='mmskip.UADETRACDataset', data_root='data'))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-4))
test_evaluator = dict(type='mmskip.ComputeCost')
"""
YOUR_RECOGNIZER = """
_base_ = 'mmskip::_base_/models/r2plus1d_r18-w16.py'
default_scope = 'mmaction'
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-4))
"""
BUILT = {'custom_hooks': HOOKS, 'test_evaluator': METRICS}
REGISTRIES = (DATASETS, DATA_SAMPLERS, FUNCTIONS, HOOKS, METRICS, MODELS)
FENCE = re.compile(
    r'^( *)```(\w*)[^\n]*\n(.*?)^\1```$', re.MULTILINE | re.DOTALL
)
LINK = re.compile(r'\]\(([^()\s]+)\)')
CODE = re.compile(r'`([^`\n]+)`')
PATH = re.compile(r'(?:configs|docs|mmskip|tests|tools)/[\w./{},*^-]+')


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def find_blocks(page):
    text = page.read_text()
    return [
        Block(
            page,
            text.count('\n', 0, found.start()) + 1,
            found[2],
            textwrap.dedent(found[3]),
        )
        for found in FENCE.finditer(text)
    ]


def is_config(block):
    return all(
        isinstance(node, ast.Assign) for node in ast.parse(block.text).body
    )


BLOCKS = [block for page in PAGES for block in find_blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == 'python']
CONFIGS = [block for block in PYTHON if is_config(block)]
SCRIPTS = [block for block in PYTHON if not is_config(block)]
COMMANDS = [block for block in BLOCKS if block.language == 'bash']


def name_of(value):
    is_path = isinstance(value, Path)
    return str(value.relative_to(ROOT)) if is_path else str(value)


class Parsed(BaseException):
    """A tool has read its command line."""


class TinyModel(BaseModel):
    """Stands for the reader's model."""

    def __init__(self):
        super().__init__(dict(type='ImgDataPreprocessor'))
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
        )
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.backbone(inputs))


def make_examples():
    """What scripts of the pages begin with: a model, and frames."""
    torch.manual_seed(0)
    frames = [torch.rand(3, 16, 16)]
    for column in range(3):
        frames.append(frames[0].clone())
        frames[-1][:, 4:8, column : column + 4] += 0.5
    video = [dict(inputs=[frame]) for frame in frames]
    return dict(
        model=TinyModel().eval(),
        video=video,
        frame_of_a=video[0],
        frame_of_b=video[1],
    )


def slug(heading):
    """The anchor of a heading, as mkdocs makes it."""
    plain = unicodedata.normalize('NFKD', heading.replace('`', ''))
    plain = plain.encode('ascii', 'ignore').decode()
    plain = re.sub(r'[^\w\s-]', '', plain).strip().lower()
    return re.sub(r'[-\s]+', '-', plain)


def expand(path):
    """The paths that braces stand for."""
    found = re.search(r'\{([^{}]*)\}', path)
    if found is None:
        return [path]
    before, after = path[: found.start()], path[found.end() :]
    return [
        other
        for name in found[1].split(',')
        for other in expand(before + name + after)
    ]


def split_commands(text):
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        while '&&' in words:
            end = words.index('&&')
            yield words[:end]
            words = words[end + 1 :]
        if words:
            yield words


def read_command(words, monkeypatch, capsys):
    """Let the tool that a command names read the rest of it."""

    def parse(parser, args=None, namespace=None):
        read(parser, args, namespace)
        raise Parsed

    if words[1] == '-c':
        ast.parse(words[2])
        return
    read = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse)
    try:
        if words[0] == 'mmskip':
            code = cli.main(words[1:])
        elif words[1:3] == ['-m', 'mmskip.doctor']:
            code = doctor.main(words[3:])
        else:
            code = cli.run_script(ROOT / words[1], words[1], words[2:])
    except Parsed:
        return
    assert (words[-1], code) == ('--help', 0), capsys.readouterr().err


def test_readme_is_short():
    assert len(PAGES[0].read_text().splitlines()) <= 160


def test_every_block_has_a_language_that_is_checked():
    others = [str(b) for b in BLOCKS if b.language not in LANGUAGES]
    assert not others
    assert min(map(len, (CONFIGS, SCRIPTS, COMMANDS))) > 5


@pytest.mark.parametrize(
    'page', sorted({block.page for block in SCRIPTS}), ids=name_of
)
def test_scripts_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(make_examples(), __builtins__=builtins, __name__='page')
    for block in SCRIPTS:
        if block.page == page:
            # Tracebacks show the lines of the page.
            text = '\n' * block.line + block.text
            exec(compile(text, page, 'exec'), names)


@pytest.mark.parametrize('block', CONFIGS, ids=name_of)
def test_a_config_builds(block, tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmaction')
    monkeypatch.chdir(tmp_path)
    Path('your_detector.py').write_text(YOUR_DETECTOR)
    Path('your_recognizer.py').write_text(YOUR_RECOGNIZER)
    Path('config.py').write_text(block.text)
    cfg = Config.fromfile('config.py')
    names = {node.targets[0].id for node in ast.parse(block.text).body}

    import_host(cfg)
    scope = cfg.get('default_scope') or 'mmskip'
    with DefaultScope.overwrite_default_scope(scope):
        if 'model' in names:
            init_model(cfg)
        for name in names & set(BUILT):
            options = cfg[name]
            for option in options if isinstance(options, list) else [options]:
                host = option.get('_scope_', scope)
                kind = option.type
                assert BUILT[name].get(
                    kind if '.' in kind else f'{host}.{kind}'
                )
                if option.type.startswith('mmskip.'):
                    BUILT[name].build(option)
    for kind in re.findall(r"type='(mmskip\.\w+)'", cfg.pretty_text):
        assert any(registry.get(kind) for registry in REGISTRIES), kind


@pytest.mark.parametrize('block', COMMANDS, ids=name_of)
def test_commands_are_those_of_the_tools(block, tmp_path, monkeypatch, capsys):
    targets = re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M)
    for words in split_commands(block.text):
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            if words[0] == 'make':
                assert set(words[1:]) <= {*targets, 'VENV=/my/venv'}
            elif words[0] in ('mmskip', 'python'):
                read_command(words, patch, capsys)
            else:
                assert words[0] in PROGRAMS or (ROOT / words[0]).is_file()
        for word in words:
            if PATH.fullmatch(word):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_paths_and_commands_in_the_text_exist(page):
    text = FENCE.sub('', page.read_text())
    for code in CODE.findall(text):
        words = code.split()
        if words[0] == 'mmskip' and len(words) > 1:
            assert words[1] in {'--help', *cli.COMMANDS, *cli.GROUPS}, code
            if words[1] in cli.GROUPS and len(words) > 2:
                assert words[2] in cli.tools_of(words[1]), code
        for word in words:
            if PATH.fullmatch(word):
                for path in expand(word):
                    assert any(ROOT.glob(path)), word


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in LINK.findall(FENCE.sub('', page.read_text())):
        if '://' in link:
            continue
        name, _, anchor = link.partition('#')
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r'^#+ (.+)$', target.read_text(), re.M)
            assert anchor in map(slug, headings), link


def test_the_walk_through_the_code_names_its_files():
    text = (ROOT / 'docs/concepts.md').read_text()
    walk = text.partition('## How a frame walks')[2]
    rows = re.findall(r'^\| (`.+?`) \|', walk, re.M)
    names = re.findall(r'`([\w/.]+)`', ' '.join(rows))
    assert len(rows) == 14
    assert all((ROOT / 'mmskip' / name).is_file() for name in names)


def test_every_public_name_is_in_the_reference():
    pages = [p.read_text() for p in PAGES if p.parent.name == 'api']
    shown = set(re.findall(r'\bmmskip\.(\w+)$', '\n'.join(pages), re.M))

    assert set(mmskip.__all__) - {'__version__'} <= shown


def test_every_word_has_its_drawing():
    path = ROOT / 'tools/docs/draw_concepts.py'
    spec = importlib.util.spec_from_file_location('draw_concepts', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    drawn = {f'{name}.png' for name in tool.DRAWINGS}
    kept = {file.name for file in (ROOT / 'docs/images/concepts').iterdir()}
    page = (ROOT / 'docs/concepts.md').read_text()
    shown = re.findall(r'\(images/concepts/([\w.]+)\)', page)
    assert drawn == kept == set(shown)
