"""Repairs for known defects of the packages mmskip stands on.

:func:`apply` runs when mmskip is imported, before anything else of it, so
that the stock tools of mmdet, mmpose and mmaction2 get every repair through
``custom_imports = dict(imports=['mmskip'])``. Each repair is one function
that names the defect and where it is discussed, does nothing where the
defect is absent, and may run twice.
"""

from .checkpoints import load_runner_checkpoints
from .packages import (
    announce_configs,
    define_torchvision_schemas,
    find_installed_packages,
    let_mmcv_read_any_layout,
    let_ssd_head_predict,
    provide_missing_drn,
)

__all__ = [
    'announce_configs',
    'apply',
    'define_torchvision_schemas',
    'find_installed_packages',
    'let_mmcv_read_any_layout',
    'let_ssd_head_predict',
    'load_runner_checkpoints',
    'provide_missing_drn',
]


def apply() -> None:
    """Run every repair."""
    define_torchvision_schemas()
    provide_missing_drn()
    load_runner_checkpoints()
    find_installed_packages()
    announce_configs()
    let_ssd_head_predict()
    let_mmcv_read_any_layout()
