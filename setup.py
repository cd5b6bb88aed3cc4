import os
import platform
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

try:
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except ImportError:
    BuildExtension = CppExtension = None

ROOT = Path(__file__).resolve().parent
#: What `_base_ = 'mmskip::...'` and `mim` look for inside the package.
MIM = ('configs', 'tools', 'model-index.yml')


def read_version() -> str:
    text = (ROOT / 'mmskip' / '__init__.py').read_text()
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(
            "mmskip/__init__.py has no line __version__ = '...'"
        )
    return found[1]


class BuildWithMim(build_py):
    """Puts configs, tools and the model index into ``mmskip/.mim``.

    A wheel gets copies. An editable install (PEP 660) gets links, so that an
    edited config takes effect at once.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            self._link(ROOT / 'mmskip' / '.mim')
        else:
            self._copy(Path(self.build_lib) / 'mmskip' / '.mim')

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            mim = Path(self.build_lib) / 'mmskip' / '.mim'
            outputs += [str(path) for path in mim.rglob('*') if path.is_file()]
        return outputs

    def _link(self, mim: Path) -> None:
        mim.mkdir(exist_ok=True)
        for name in MIM:
            link = mim / name
            if link.is_symlink():
                link.unlink()
            link.symlink_to(os.path.relpath(ROOT / name, mim))

    def _copy(self, mim: Path) -> None:
        shutil.rmtree(mim, ignore_errors=True)
        for name in MIM:
            source, target = ROOT / name, mim / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                junk = shutil.ignore_patterns('__pycache__', '.*')
                shutil.copytree(source, target, ignore=junk)
            else:
                shutil.copy2(source, target)


CSRC = Path('mmskip', 'native', 'csrc')
AVX512 = [
    *('-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma'),
    '-mprefer-vector-width=512',
]
#: What each file of kernels may use of the CPU; chosen among at run time.
INSTRUCTION_SETS = {
    'portable': [],
    'tiles': [],
    'avx2': ['-mavx2', '-mfma'],
    'avx512': AVX512,
    'avxvnni': ['-mavx2', '-mfma'],
    'avx512vnni': AVX512,
    'avx512bf16': [*AVX512, '-mavx512bf16'],
    'amx': [*AVX512, '-mavx512bf16'],
}
# A table of kernels does not have all that a file includes.
FLAGS = [
    *('-O3', '-g0', '-fno-math-errno', '-fvisibility=hidden'),
    '-Wno-unused-function',
]
# Without it torch's parallel_for, which is in a header, runs on one thread.
# Torch has loaded the library that it takes.
OPENMP = ['-fopenmp'] if sys.platform == 'linux' else []


def why_not_native() -> str:
    """Why the C++ operators cannot be built here; nothing if they can."""
    if os.environ.get('MMSKIP_BUILD_NATIVE') == '0':
        return 'MMSKIP_BUILD_NATIVE=0 asks for that'
    if BuildExtension is None:
        return (
            'torch is not there to build with; install it first, then '
            'mmskip with --no-build-isolation'
        )
    compiler = os.environ.get('CXX', 'c++').split()[0]
    if shutil.which(compiler) is None:
        return f'there is no C++ compiler {compiler}; install one (g++)'
    return ''


def native_extension() -> dict:
    """Arguments of ``setup`` that build the C++ operators.

    They are built by torch for torch: a library that registers operators,
    without Python in it.
    """
    reason = why_not_native()
    if reason:
        sys.stderr.write(
            f'mmskip: installing without its C++ operators: {reason}\n'
        )
        return {}

    class BuildNative(BuildExtension):
        """Compiles each file of kernels for its own instruction set.

        The other files are one unit: each alone would spend most of its time
        on torch's headers. All are compiled side by side.
        """

        def build_extension(self, extension) -> None:
            unit = Path(self.build_temp, 'native.cpp').resolve()
            unit.parent.mkdir(parents=True, exist_ok=True)
            unit.write_text(
                ''.join(
                    f'#include "{Path(source).resolve()}"\n'
                    for source in extension.sources
                )
            )
            extension.depends += extension.sources
            extension.sources = [os.path.relpath(unit), *kernel_files()]
            compile_in_turn = self.compiler.compile

            def compile_at_once(sources, *, extra_postargs, **options):
                def compile_one(source):
                    flags = [*extra_postargs, *kernel_files().get(source, ())]
                    return compile_in_turn(
                        [source], extra_postargs=flags, **options
                    )

                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    return list(chain(*pool.map(compile_one, sources)))

            self.compiler.compile = compile_at_once
            super().build_extension(extension)

    extension = CppExtension(
        'mmskip.native._native',
        sorted(
            str(path)
            for path in CSRC.glob('*.cpp')
            if not path.name.startswith('kernels_')
        ),
        depends=[__file__, *sorted(str(path) for path in CSRC.glob('*.h'))],
        extra_compile_args=[*FLAGS, *OPENMP],
        extra_link_args=OPENMP,
        optional=True,
    )
    # Without ninja every file is compiled by itself, with flags of its own.
    command = BuildNative.with_options(
        use_ninja=False, no_python_abi_suffix=True
    )
    return {'ext_modules': [extension], 'cmdclass': {'build_ext': command}}


def kernel_files() -> dict[str, list[str]]:
    """Flags of the instruction set of each file of kernels, by path."""
    machine = platform.machine().lower()
    known = machine in ('x86_64', 'amd64')
    names = INSTRUCTION_SETS if known else ['portable', 'tiles']
    return {
        str(CSRC / f'kernels_{name}.cpp'): INSTRUCTION_SETS[name]
        for name in names
    }


NATIVE = native_extension()

HOSTS = {
    'det': ['mmcv>=2.1.0', 'mmdet>=3.3.0'],
    'pose': ['mmcv>=2.1.0', 'mmpose>=1.3.2'],
    'action': ['mmcv>=2.1.0', 'mmaction2>=1.2.0'],
}
#: For one config of images; no part of 'all'.
SEG = ['ftfy', 'mmcv>=2.1.0', 'mmsegmentation>=1.2.2', 'regex']
#: What `mmskip benchmark` compares skipping with.
BENCHMARK = ['onnx', 'onnxruntime', 'openvino']
#: What `mmskip stream` needs for --track and --metrics-port, and
#: `mmskip analyze mot`.
CAMERAS = ['lap', 'motmetrics', 'prometheus_client']
#: What `mmskip convert-model onnx-detectors` needs.
ONNX = ['onnx']
#: What `mmskip archive --ray` needs.
RAY = ['ray']

setup(
    name='mmskip',
    version=read_version(),
    description=(
        'Skip redundant computation in video models of mmdet, mmpose and '
        'mmaction2'
    ),
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['mmskip', 'mmskip.*']),
    install_requires=[
        'av>=14',
        'matplotlib',
        'mmengine>=0.10.7',
        'numpy',
        'rich',
        'scipy',
        'torch>=2.6',
    ],
    extras_require={
        **HOSTS,
        'seg': SEG,
        'benchmark': BENCHMARK,
        'cameras': CAMERAS,
        'onnx': ONNX,
        'ray': RAY,
        'all': sorted(
            {package for host in HOSTS.values() for package in host}
        ),
    },
    entry_points={'console_scripts': ['mmskip = mmskip.cli:main']},
    ext_modules=NATIVE.get('ext_modules', []),
    cmdclass={'build_py': BuildWithMim, **NATIVE.get('cmdclass', {})},
    zip_safe=False,
)
