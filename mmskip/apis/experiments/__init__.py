"""Experiments of many trainings and tests, each done once."""

from .arguments import (
    Checkpoint,
    add_model_arguments,
    add_run_arguments,
    make_tool_runs,
    read_checkpoints,
)
from .files import detection_row, write_csv, write_json
from .jobs import Done, Job, Tell, run_jobs
from .plan import Trial, read_plan
from .recipes import keep, make_recipe, read_back
from .tool_runs import Tested, ToolRuns

__all__ = [
    'Checkpoint',
    'Done',
    'Job',
    'Tell',
    'Tested',
    'ToolRuns',
    'Trial',
    'add_model_arguments',
    'add_run_arguments',
    'detection_row',
    'keep',
    'make_recipe',
    'make_tool_runs',
    'read_back',
    'read_checkpoints',
    'read_plan',
    'run_jobs',
    'write_csv',
    'write_json',
]
