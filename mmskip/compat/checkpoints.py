"""torch's safe reader and the checkpoints that mmengine's Runner writes."""

import inspect
import os
import pickle
import re
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import checkpoint as mmengine_checkpoint

#: What Runner checkpoints fetch with ``getattr``: the statistics of a
#: HistoryBuffer, and the annealing function of a one-cycle schedule.
ATTRIBUTES = (
    (HistoryBuffer, ('current', 'max', 'mean', 'min')),
    (OneCycleParamScheduler, ('_annealing_cos', '_annealing_linear')),
)


def getattr_of_checkpoint(owner: Any, name: Any) -> Any:
    """Stand in for ``getattr`` while a checkpoint is read.

    pickle writes a function defined in a class as ``getattr(cls, name)``.
    Allowing the real ``getattr`` would open a way from any allowed class to
    the rest of the interpreter; this one knows only :data:`ATTRIBUTES`.

    Raises:
        pickle.UnpicklingError: Anything else is asked for.
    """
    for known, names in ATTRIBUTES:
        if owner is known and isinstance(name, str) and name in names:
            return getattr(owner, name)
    label = getattr(owner, '__qualname__', type(owner).__qualname__)
    raise pickle.UnpicklingError(
        f'Unsupported global: GLOBAL {label}.{name} '
        'was not an allowed global by default.'
    )


def checkpoint_globals() -> list[Any]:
    """What a Runner checkpoint holds beyond the types torch allows anyway.

    - its message hub: ``HistoryBuffer``, numpy arrays and scalars;
    - its dataset_meta: numpy arrays (empty ones too), ``ConfigDict``;
    - its parameter schedulers: a function of ``OneCycleParamScheduler``.

    numpy's private names are given as numpy 1 and as numpy 2 write them.

    Returns:
        Entries for :class:`torch.serialization.safe_globals`, less those
        that somebody else allowed and that must outlive the block.
    """
    entries: list[Any] = [
        HistoryBuffer,
        OneCycleParamScheduler,
        ConfigDict,
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in '?bhilqBHILQefdFDSU'},
        (bytes, 'builtins.bytes'),
        (getattr_of_checkpoint, 'builtins.getattr'),
    ]
    rebuild_array = np.empty(0).__reduce__()[0]
    rebuild_scalar = np.float64(0).__reduce__()[0]
    for package in ('numpy.core', 'numpy._core'):
        entries += [
            (rebuild_array, f'{package}.multiarray._reconstruct'),
            (rebuild_scalar, f'{package}.multiarray.scalar'),
        ]
    present = torch.serialization.get_safe_globals()
    return [entry for entry in entries if entry not in present]


def describe_refusal(filename: str, reason: str) -> str:
    """Say in our words why torch would not read ``filename``."""
    found = set(re.findall(r'GLOBAL (\S+) (?:was not|whose module)', reason))
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(filename)
    except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError):
        unsafe = []  # not in the zip format of today
    names = ', '.join(
        sorted(
            {name.removeprefix('builtins.') for name in found.union(unsafe)}
        )
    )
    if not names:
        return f'{filename} was not loaded: {reason}'
    return (
        f'{filename} was not loaded: besides weights it holds {names}, which '
        "a checkpoint of mmengine's Runner does not need and which could run "
        'code of its author. If you trust the file, allow these by '
        'torch.serialization.add_safe_globals([...]) before loading it, or '
        'set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1; if not, ask for a file of '
        'weights only'
    )


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint file with torch's safe reader.

    Args:
        filename: Path of the file.
        map_location: Same as in :func:`torch.load`.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: There is no such file.
        pickle.UnpicklingError: The file holds something a checkpoint of
            mmengine's Runner does not; none of it was executed.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    with torch.serialization.safe_globals(checkpoint_globals()):
        try:
            return torch.load(filename, map_location=map_location)
        except pickle.UnpicklingError as error:
            message = describe_refusal(filename, str(error))
            raise pickle.UnpicklingError(message) from error


def load_runner_checkpoints() -> None:
    """Let mmengine read the checkpoints its own Runner wrote.

    Since 2.6, :func:`torch.load` refuses every type outside a short list
    unless told otherwise, and mmengine 0.10.7 does not: resuming a training
    and testing its ``epoch_N.pth`` both fail. The types those files need are
    allowed while mmengine reads a local file, and no others; the process-wide
    list of torch stays as it is.

    https://github.com/open-mmlab/mmengine/issues/1655
    """
    parameters = inspect.signature(torch.load).parameters
    loader = mmengine_checkpoint.load_from_local
    schemes = mmengine_checkpoint.CheckpointLoader._schemes
    if (
        parameters['weights_only'].default is False
        or 'weights_only' in inspect.getsource(loader)
        or schemes.get('') is not loader
    ):
        return
    mmengine_checkpoint.CheckpointLoader.register_scheme(
        prefixes='', loader=load_from_local, force=True
    )
