"""Check every model of a host's configs: a stream computes what it does."""

from mmskip.apis.zoo.checking import check_model
from mmskip.apis.zoo.configs import ZooModel, config_paths, group_models
from mmskip.apis.zoo.rows import Row, append_row, read_rows, write_tables
from mmskip.apis.zoo.runs import Limits, run_models

__all__ = [
    'Limits',
    'Row',
    'ZooModel',
    'append_row',
    'check_model',
    'config_paths',
    'group_models',
    'read_rows',
    'run_models',
    'write_tables',
]
