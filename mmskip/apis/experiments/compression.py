"""What tools/compress.py is to do, and what it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mmskip.apis.errors import UserError

# Names of methods to those of mmskip.SVDConversion.
SVD_METHODS = dict(spatial_svd='spatial', weight_svd='weight')
KEYS = ('macs', 'method', 'shape')


@dataclass(frozen=True)
class Compression:
    """A compression to a share of a model's MACs.

    Attributes:
        method: A key of :data:`SVD_METHODS`.
        macs: Share of the whole model's MACs that may be left, below 1.
        shape: Of the model's input (N, C, H, W) for which MACs are counted;
            ``None`` leaves it to the config's codec.
    """

    method: str
    macs: float
    shape: tuple[int, ...] | None = None

    def keys(self) -> dict[str, Any]:
        """As JSON knows it."""
        shape = None if self.shape is None else list(self.shape)
        return dict(method=self.method, macs=self.macs, shape=shape)

    def files(self, folder: Path, config: str | PathLike) -> tuple[Path, Path]:
        """The config and the checkpoint that are written for a config."""
        path = folder / f'{Path(config).stem}_{self.method}-{self.macs}.py'
        return path, path.with_suffix('.pth')

    def arguments(self) -> list[str]:
        """Those of the command line."""
        found = ['--method', self.method, '--macs', str(self.macs)]
        if self.shape is not None:
            found += ['--shape', *map(str, self.shape)]
        return found


def read_compression(parts: Sequence[Any], where: str) -> Compression:
    """Read what a plan says.

    Args:
        parts: Dicts of attributes of :class:`Compression`; those of later
            ones win.
        where: What the message calls the place.

    Raises:
        UserError: One is not such a dict, or an attribute is out of range.
    """
    found: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, Mapping) or not set(part) <= set(KEYS):
            raise UserError(
                f'{where}: expected compress to be a dict of '
                f'{", ".join(KEYS)}, got {part!r}'
            )
        found.update(part)
    method, macs = found.get('method'), found.get('macs')
    if method not in SVD_METHODS:
        raise UserError(
            f'{where}: expected method of compress to be one of '
            f'{", ".join(SVD_METHODS)}, got {method!r}'
        )
    if not isinstance(macs, float) or not 0 < macs < 1:
        raise UserError(
            f'{where}: expected macs of compress, a share between 0 and 1, '
            f'got {macs!r}'
        )
    shape = found.get('shape')
    return Compression(method, macs, None if shape is None else tuple(shape))
