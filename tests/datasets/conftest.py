from collections.abc import Callable
from pathlib import Path

import pytest

from tests.datasets.releases import sequence_xml, write_images


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """Write a release with sequences ``{name: (xml text, image numbers)}``."""

    def write(
        sequences: dict[str, tuple[str, list[int]]],
        images: str = 'Insight-MVT_Annotation_Train',
        annotations: str = 'DETRAC-Train-Annotations-XML',
        suffix: str = '',
    ) -> Path:
        (tmp_path / annotations).mkdir(parents=True, exist_ok=True)
        for name, (text, numbers) in sequences.items():
            path = tmp_path / annotations / f'{name}{suffix}.xml'
            path.write_text(text)
            write_images(tmp_path / images / name, numbers)
        return tmp_path

    return write


@pytest.fixture
def two_sequences() -> dict[str, tuple[str, list[int]]]:
    """Two sequences of 4 and 3 frames; 6 vehicles, 2 of 7 frames empty."""
    first = sequence_xml(
        'MVI_20011',
        {
            1: [(1, 'car', (1, 1, 10, 20)), (2, 'bus', (31.5, 11, 20.5, 30))],
            2: [(1, 'car', (3, 1, 10, 20))],
            4: [(1, 'van', (90, 50, 20, 20))],
        },
        ignored=[(0.5, 40, 20.25, 24), (60, 1, 30, 10)],
    )
    second = sequence_xml(
        'MVI_20012',
        {
            1: [(1, 'others', (5, 5, 10, 10))],
            3: [(1, 'others', (9, 5, 10, 10))],
        },
    )
    return {
        'MVI_20012': (second, [1, 2, 3]),
        'MVI_20011': (first, [1, 2, 3, 4]),
    }
