"""Write a tiny release of UA-DETRAC."""

from pathlib import Path

import cv2
import numpy as np

BOX = '<box left="{0}" top="{1}" width="{2}" height="{3}"/>'
TARGET = (
    '<target id="{id}">{box}<attribute orientation="18.5" speed="6.8" '
    'trajectory_length="5" truncation_ratio="0.1" vehicle_type="{kind}"/>'
    '</target>'
)


def sequence_xml(
    name: str,
    frames: dict[int, list[tuple[int, str, tuple]]],
    ignored: list[tuple] = (),
    density: int | None = None,
) -> str:
    """Text of an annotation: targets ``(id, type, ltwh)`` by frame number."""
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<sequence name="{name}">'
    text += '<sequence_attribute camera_state="stable" sence_weather="sunny"/>'
    regions = ''.join(BOX.format(*box) for box in ignored)
    text += f'<ignored_region>{regions}</ignored_region>'
    for number, targets in frames.items():
        count = len(targets) if density is None else density
        text += f'<frame density="{count}" num="{number}"><target_list>'
        for track, kind, box in targets:
            text += TARGET.format(id=track, kind=kind, box=BOX.format(*box))
        text += '</target_list></frame>'
    return text + '</sequence>'


def write_images(folder: Path, numbers: list[int], size=(96, 64)) -> None:
    """Write grey images ``img%05d.jpg`` of a size (width, height)."""
    folder.mkdir(parents=True)
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    for number in numbers:
        cv2.imwrite(str(folder / f'img{number:05d}.jpg'), image)
