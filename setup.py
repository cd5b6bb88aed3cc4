import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

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


HOSTS = {
    'det': ['mmcv>=2.1.0', 'mmdet>=3.3.0'],
    'pose': ['mmcv>=2.1.0', 'mmpose>=1.3.2'],
    'action': ['mmcv>=2.1.0', 'mmaction2>=1.2.0'],
}
#: For one config of images; no part of 'all'.
SEG = ['ftfy', 'mmcv>=2.1.0', 'mmsegmentation>=1.2.2', 'regex']

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
        'all': sorted(
            {package for host in HOSTS.values() for package in host}
        ),
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
