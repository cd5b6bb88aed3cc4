"""Telling what a file is that should have been a checkpoint."""

import re
import struct
import zipfile
from pathlib import Path

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
    """Names of what a zip file holds with another checksum than it says.

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


def _is_right(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as record:
            while record.read(_CHUNK):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _has_end(file: Path) -> bool:
    """Whether the directory at the end of a zip file is there."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return False
