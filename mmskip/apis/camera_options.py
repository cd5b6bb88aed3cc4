"""Options of each camera, from the command line or a YAML file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mmskip.reading import reading
from mmskip.video.regions import Region

from .errors import UserError

#: In the name of an output it stands for the name of the camera.
NAME = '{name}'


@dataclass(frozen=True)
class CameraOptions:
    """Keeps the options of a camera.

    Attributes:
        source: A file, a folder, an address or the number of a camera.
        name: In messages and in the names of outputs.
        out: Annotated video to write.
        results: Files of results to write, see
            :class:`mmskip.video.ResultLog`.
        region: Polygons around what is watched.
        ignore: Polygons of what is not, or pictures that are white there.
        bbox: Of a pose estimator.
    """

    source: str
    name: str = ''
    out: str | None = None
    results: Sequence[str] = ()
    region: Sequence[Any] = ()
    ignore: Sequence[Any] = ()
    bbox: Sequence[float] | None = None

    def make_region(self) -> Region | None:
        """Return the region, None if everything is watched."""
        if not self.region and not self.ignore:
            return None
        return Region(self.region, self.ignore)


def read_cameras(path: str | Path, common: CameraOptions) -> list:
    """Read the cameras of a YAML file.

    It holds a list of cameras, or a dict with such a list as ``cameras``;
    each camera has the attributes of :class:`CameraOptions`, of which only
    ``source`` is needed.

    Args:
        path: The file.
        common: What holds for cameras that do not say otherwise.

    Returns:
        A list of :class:`CameraOptions`.

    Raises:
        UserError: Not such a file, or an unknown key.
    """
    if not Path(path).is_file():
        raise UserError(f'expected a YAML file of cameras, found no {path}')
    with reading(path, 'a YAML file of cameras', 'see `mmskip stream -h`'):
        content = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    items = content.get('cameras') if isinstance(content, dict) else content
    if not isinstance(items, list) or not items:
        raise UserError(
            f'{path}: expected a list of cameras, each with a source, got '
            f'{type(items).__name__}'
        )
    return [_read_camera(path, item, common) for item in items]


def _read_camera(
    path: str | Path, item: Any, common: CameraOptions
) -> CameraOptions:
    known = [field.name for field in fields(CameraOptions)]
    if not isinstance(item, dict) or 'source' not in item:
        raise UserError(
            f'{path}: expected a camera with a source, got {item!r}'
        )
    unknown = sorted(map(str, item.keys() - set(known)))
    if unknown:
        raise UserError(
            f'{path}: expected of a camera {", ".join(known)}, got '
            f'{", ".join(unknown)}'
        )
    item = {**item, 'source': str(item['source'])}
    # One of what there may be several of.
    for key in ('results', 'region', 'ignore'):
        if isinstance(item.get(key), str) or _is_polygon(item.get(key)):
            item[key] = [item[key]]
    for key in ('region', 'ignore'):
        if key in item:
            item[key] = [_polygon(path, shape) for shape in item[key]]
    return replace(common, **item)


def _is_polygon(value: Any) -> bool:
    """Tell a polygon, ``[x, y, x, y, ...]``, from a list of them."""
    return isinstance(value, list) and any(
        isinstance(number, (int, float)) for number in value
    )


def _polygon(path: str | Path, shape: Any) -> Any:
    """Pair the numbers of a polygon; leave the path of a picture alone."""
    if isinstance(shape, str):
        return shape
    if not _is_polygon(shape) or len(shape) < 6 or len(shape) % 2:
        raise UserError(
            f'{path}: expected a polygon [x1, y1, x2, y2, x3, y3, ...], got '
            f'{shape!r}'
        )
    return list(zip(shape[::2], shape[1::2], strict=True))


def name_cameras(cameras: Sequence[CameraOptions]) -> list[CameraOptions]:
    """Give each camera a name of its own, and its outputs.

    Raises:
        UserError: Two cameras have one name, or would write one file.
    """
    names: list[str] = []
    for number, camera in enumerate(cameras):
        name = camera.name or _short(camera.source)
        if name in names and not camera.name:
            name = f'{name}-{number}'
        if name in names:
            raise UserError(f'expected cameras of different names, got {name}')
        names.append(name)
    named = []
    for camera, name in zip(cameras, names, strict=True):
        out = camera.out and camera.out.replace(NAME, name)
        results = [path.replace(NAME, name) for path in camera.results]
        named.append(replace(camera, name=name, out=out, results=results))
    _check_places(named)
    return named


def _check_places(cameras: Sequence[CameraOptions]) -> None:
    taken: dict[Path, str] = {}
    for camera in cameras:
        for place in filter(None, (camera.out, *camera.results)):
            path = Path(place).resolve()
            other = taken.setdefault(path, camera.name)
            if other != camera.name:
                raise UserError(
                    f'expected an output for each camera, got {place} for '
                    f'{other} and {camera.name}; write {NAME} into it, such '
                    f'as results/{NAME}{path.suffix}'
                )


def _short(source: str) -> str:
    """Make a name of a source, without what a file's name cannot have."""
    if source.isdecimal():
        return f'camera{source}'
    if '://' in source:
        # Not the password that may stand before the host.
        rest = source.split('://', 1)[1].rpartition('@')[2]
        return re.sub(r'[^\w.-]+', '-', rest).strip('-')
    return Path(source).stem or 'camera'
