"""Experiments of many trainings and tests, each done once."""

from .arguments import (
    Checkpoint,
    add_model_arguments,
    add_output_arguments,
    add_run_arguments,
    make_folder,
    make_tool_runs,
    positive,
    read_checkpoints,
)
from .compression import SVD_METHODS, Compression
from .files import make_row, slug, write_csv, write_json
from .jobs import Done, Job, Tell, run_jobs
from .plan import Trial, read_plan
from .recipes import TEST_KEYS, keep, make_recipe, read_back
from .splits import split_options
from .tool_runs import Tested, ToolRuns

__all__ = [
    'SVD_METHODS',
    'TEST_KEYS',
    'Checkpoint',
    'Compression',
    'Done',
    'Job',
    'Tell',
    'Tested',
    'ToolRuns',
    'Trial',
    'add_model_arguments',
    'add_output_arguments',
    'add_run_arguments',
    'keep',
    'make_folder',
    'make_recipe',
    'make_row',
    'make_tool_runs',
    'positive',
    'read_back',
    'read_checkpoints',
    'read_plan',
    'run_jobs',
    'slug',
    'split_options',
    'write_csv',
    'write_json',
]
