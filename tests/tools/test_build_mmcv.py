"""Sources of mmcv, joined in a few translation units."""

import importlib.util
import tempfile
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / 'tools' / 'build_mmcv.py'
ADD = 'static int add(int a, int b) { return a + b; }\n'
MACRO = '#define GRAIN 4\nvoid {}() {{}}\n'


@pytest.fixture(scope='module')
def build_mmcv():
    spec = importlib.util.spec_from_file_location('build_mmcv', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_defined_in_two_files_is_never_in_one_unit(build_mmcv):
    files = {
        'a.cpp': ADD,
        'b.cpp': f'template <typename T>\n{ADD}',
        'c.cpp': MACRO.format('c'),
        'd.cpp': MACRO.format('d'),
        'e.cpp': 'struct Shape {\n};\nconst int kMost = 3;\n',
        'f.cpp': 'constexpr int kMost{3};\n',
        'g.cpp': 'at::Tensor\nroi(const at::Tensor& x) { return x; }\n',
    }

    units = build_mmcv.plan_units(files, 2)

    together = {frozenset(unit) for unit in units}
    for pair in ('ab', 'cd', 'ef'):
        names = {f'{letter}.cpp' for letter in pair}
        assert not any(names <= unit for unit in together)
    assert sorted(name for unit in units for name in unit) == sorted(files)


def test_macros_in_small_letters_are_alone(build_mmcv):
    files = {name: f'void {name}() {{}}\n' for name in 'abcd'}
    files['psa'] = '#define min(a, b) a\nvoid psa() {}\n'

    assert ['psa'] in build_mmcv.plan_units(files, 1)


def test_units_include_each_source_once(build_mmcv, tmp_path):
    folder = tmp_path / build_mmcv.SOURCES
    (folder / 'cpu').mkdir(parents=True)
    for name in ('nms.cpp', 'roi.cpp', 'cpu/nms.cpp'):
        (folder / name).write_text(f'void {name[:3]}{len(name)}() {{}}\n')

    number = build_mmcv.join_sources(tmp_path, 2)

    units = sorted(folder.glob('*.cpp'))
    assert len(units) == number == 2
    assert not list(folder.glob('cpu/*.cpp'))
    lines = [line for unit in units for line in unit.read_text().splitlines()]
    assert sorted(lines) == [
        '#include "originals/cpu_nms.cpp"',
        '#include "originals/nms.cpp"',
        '#include "originals/roi.cpp"',
    ]
    for line in lines:
        assert (folder / line.split('"')[1]).is_file()


def test_a_folder_without_sources_is_refused(build_mmcv, tmp_path):
    (tmp_path / build_mmcv.SOURCES).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='source distribution'):
        build_mmcv.join_sources(tmp_path, 2)


def test_without_a_cache_of_pip_the_wheel_has_a_place(build_mmcv, monkeypatch):
    """As in the container, which keeps none."""
    with_cache = build_mmcv.wheel_folder('-O1')
    monkeypatch.setenv('PIP_NO_CACHE_DIR', '1')
    without = build_mmcv.wheel_folder('-O1')
    assert without.name == with_cache.name
    assert without.is_relative_to(tempfile.gettempdir())
