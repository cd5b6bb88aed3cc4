"""Checkpoints by every scheme that mmengine knows, read safely."""

import functools
import os
import pickle
import re
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
)

from .pickles import STAND_INS, exchange

AGAIN = 'download or copy it again'
# Beginnings of files that are often taken for checkpoints.
_ZIP = b'PK\x03\x04'
_POINTER = b'version https://git-lfs.'
_PAGE = (b'<!doctype', b'<html', b'<?xml', b'<head', b'<body')
_PICKLE = b'\x80'
_CHUNK = 1 << 20
# torch puts pages of advice around the reason.
_ADVICE = re.compile(
    r'Weights only load failed.*WeightsUnpickler error: |'
    r'Check the documentation of torch\.load.*',
    re.DOTALL,
)
# torch has one allow-list for all threads.
_ALLOWING = threading.RLock()
#: What Runner checkpoints fetch with ``getattr``: the statistics of a
#: HistoryBuffer, and the annealing function of a one-cycle schedule.
ATTRIBUTES = (
    (HistoryBuffer, ('current', 'max', 'mean', 'min')),
    (OneCycleParamScheduler, ('_annealing_cos', '_annealing_linear')),
)


def describe_broken(file: Path | None, error: Exception) -> str:
    """Say what is wrong with a file, and what to do.

    Args:
        file: None, if it is not known where it lies.
        error: Raised by torch when it read the file.
    """
    reason = _ADVICE.sub('', str(error))
    reason = ' '.join(f'{type(error).__name__}: {reason}'.split())
    if isinstance(error, KeyError) and file is None:
        return f'mmengine knows no model of this name ({error})'
    if file is None or not file.is_file():
        return reason
    size = file.stat().st_size
    with file.open('rb') as stream:
        start = stream.read(512)
    if not size:
        return f'the file is empty (0 bytes); {AGAIN}'
    if start.startswith(_POINTER):
        return (
            f'it is a pointer of Git LFS ({size:,} bytes), not the weights; '
            'fetch them with `git lfs pull`'
        )
    if start.lstrip().lower().startswith(_PAGE):
        return (
            f'it is a web page ({size:,} bytes), not a checkpoint; open the '
            'address in a browser to see why, and download the file itself'
        )
    is_cut = (
        isinstance(error, (EOFError, struct.error))
        or 'unexpected EOF' in reason
    )
    if start.startswith(_ZIP):
        is_cut = not _has_end(file)
    if is_cut and start.startswith((_ZIP, _PICKLE)):
        return f'the file is cut short ({size:,} bytes); {AGAIN}'
    if start[257:262] == b'ustar':
        return (
            f'it is in the tar format of torch 0.1 ({size:,} bytes), which '
            'cannot be read safely; if you trust it, load it with '
            'weights_only=False and save it again'
        )
    if start.startswith((_ZIP, _PICKLE)):
        return (
            f'it cannot be read ({size:,} bytes; {reason}); if the file is '
            f'damaged, {AGAIN}'
        )
    return (
        f'it is no checkpoint of torch ({size:,} bytes beginning with '
        f'{start[:8]!r}); give the file that torch.save wrote'
    )


def damaged_records(file: Path) -> list[str]:
    """Name what a zip file holds with another checksum than it says.

    torch does not compare them, so that a flipped bit is a wrong weight. A
    file that was written without checksums (``set_crc32_options``) has no
    right one at all, and is believed.
    """
    if not _has_end(file):
        return []
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        wrong = [name for name in names if not _is_right(archive, name)]
    return wrong if len(wrong) < len(names) else []


class CheckpointError(pickle.UnpicklingError):
    """A file was not loaded as a checkpoint; the text names it."""


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


def checkpoint_globals() -> dict[str, Any]:
    """List what a Runner checkpoint holds beyond the types torch allows.

    - its message hub: ``HistoryBuffer``, numpy arrays and scalars;
    - its dataset_meta: numpy arrays (empty ones too), ``ConfigDict``;
    - its parameter schedulers: a function of ``OneCycleParamScheduler``.

    Returns:
        By name; numpy's are stand-ins, see :mod:`mmskip.compat.pickles`.
    """
    kinds = [HistoryBuffer, OneCycleParamScheduler, ConfigDict]
    return {
        **{name_of(kind): kind for kind in kinds},
        **STAND_INS,
        'builtins.getattr': getattr_of_checkpoint,
    }


def name_of(entry: Any) -> str:
    """Return the name that an entry of torch's allow-list is for."""
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


@contextmanager
def allowed_globals() -> Iterator[tuple[type, ...]]:
    """Allow what a Runner checkpoint holds, and what the user allowed.

    Where both have a name, ours holds: numpy's own constructors are no safe
    ones, whoever allowed them.

    Yields:
        The classes among what is allowed.
    """
    ours = checkpoint_globals()
    entries = {(value, name) for name, value in ours.items()}
    with _ALLOWING:
        before = get_safe_globals()
        entries.update(e for e in before if name_of(e) not in ours)
        clear_safe_globals()
        add_safe_globals([*entries])
        values = [e[0] if isinstance(e, tuple) else e for e in entries]
        try:
            yield tuple(v for v in values if isinstance(v, type))
        finally:
            added = set(get_safe_globals()) - entries
            clear_safe_globals()
            add_safe_globals([*before, *added])


def load_safely(
    read: Callable[[], Any], name: str, file: Path | None = None
) -> Any:
    """Read a checkpoint while no more is allowed than it needs.

    Args:
        read: Calls :func:`torch.load`.
        name: What the message calls it.
        file: Where it lies, if that is known.

    Raises:
        OSError: It cannot be opened.
        CheckpointError: It is no checkpoint, or holds something that one of
            mmengine's Runner does not; none of it was executed.
    """
    try:
        with allowed_globals() as kinds:
            content = disarmed(exchange(read(), kinds))
        if file is not None and (wrong := damaged_records(file)):
            raise CheckpointError(
                f'{name} was not loaded: it is damaged, the checksum of '
                f'{", ".join(wrong[:3])} is wrong; {AGAIN}'
            )
        return content
    except (OSError, ImportError, CheckpointError):
        raise
    except Exception as error:
        # A file that is no checkpoint may raise anything.
        reason = describe_refusal(file, error) or describe_broken(file, error)
        raise CheckpointError(f'{name} was not loaded: {reason}') from error


def disarmed(checkpoint: Any) -> Any:
    """Put the text of a config where nobody runs it.

    ``Runner.resume`` runs ``meta['config']`` as Python to compare its
    ``gpu_ids``. Releases before mmengine wrote the key, its own Runner does
    not; the text stays as ``meta['config_text']``. Methods are taken from
    the classes: a file may set attributes of an ``OrderedDict``.
    """
    has_meta = isinstance(checkpoint, dict) and 'meta' in checkpoint
    meta = checkpoint['meta'] if has_meta else None
    if isinstance(meta, dict) and 'config' in meta:
        meta['config_text'] = type(meta).pop(meta, 'config')
    return checkpoint


def describe_refusal(file: Path | None, error: Exception) -> str | None:
    """Say in our words what torch would not call, if that is why."""
    found = set(
        re.findall(r'GLOBAL (\S+) (?:was not|whose module)', str(error))
    )
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:
        unsafe = []  # no file, not in the zip format of today, or damaged
    known = checkpoint_globals()
    found.update(name for name in unsafe if name not in known)
    if not found:
        return None
    names = sorted({name.removeprefix('builtins.') for name in found})
    return (
        f'besides weights it holds {", ".join(names)}, which '
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
        CheckpointError: See :func:`load_safely`.
    """
    path = Path(os.path.expanduser(filename))
    if not path.is_file():
        raise FileNotFoundError(f'{path} can not be found.')
    read = functools.partial(torch.load, path, map_location=map_location)
    return load_safely(read, str(path), path)


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
) -> Any:
    """Load a checkpoint from the net with torch's safe reader.

    Args:
        url: Its address.
        model_dir: Folder for the copy; None is the one of torch's hub.
        map_location: Same as in :func:`torch.load`.
        progress: Whether to show a bar.

    Raises:
        OSError: It cannot be downloaded.
        CheckpointError: See :func:`load_safely`.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    file = folder / Path(urlparse(url).path).name
    read = functools.partial(
        torch.hub.load_state_dict_from_url,
        url,
        str(folder),
        map_location,
        progress,
        weights_only=None,  # safe, unless the user says otherwise
    )
    try:
        return load_safely(read, f'{file}, the copy of {url},', file)
    except OSError as error:
        raise OSError(
            f'{url} was not downloaded to {file}: {error}; check the address, '
            'or download the file and give its path'
        ) from error


def safe_loader(loader: Callable) -> Callable:
    """Let a loader of mmengine read safely, whatever it reads from."""

    @functools.wraps(loader)
    def load(filename: str, map_location: Any = None) -> Any:
        return load_safely(lambda: loader(filename, map_location), filename)

    return load


def load_runner_checkpoints() -> None:
    """Let mmengine read the checkpoints its own Runner wrote, and no code.

    Since 2.6, :func:`torch.load` refuses every type outside a short list
    unless told otherwise, and mmengine 0.10.7 does not: resuming a training
    and testing its ``epoch_N.pth`` both fail. The types those files need are
    allowed while mmengine reads a checkpoint, and no others; the process-wide
    list of torch stays as it is. What it downloads (``https://``,
    ``torchvision://``, ``open-mmlab://``, ...) it hands to
    ``torch.hub.load_state_dict_from_url``, which runs what a file says: it
    is read like any other here. A loader that somebody else registered is
    left alone.

    https://github.com/open-mmlab/mmengine/issues/1655
    """
    mmengine_checkpoint.load_url = load_url
    registry = mmengine_checkpoint.CheckpointLoader
    for prefix, loader in list(registry._schemes.items()):
        stock = getattr(mmengine_checkpoint, loader.__name__, None)
        if loader is not stock:
            continue
        mended = load_from_local if prefix == '' else safe_loader(loader)
        registry.register_scheme(prefix, mended, force=True)


def _is_right(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as record:
            while record.read(_CHUNK):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _has_end(file: Path) -> bool:
    """Tell whether the directory at the end of a zip file is there."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return False
