"""mmpose looks for the joints of its data sets from the working directory."""

from pathlib import Path

import pytest

mmpose = pytest.importorskip('mmpose')

OURS = Path(__file__).parents[2] / 'configs/_base_/datasets'
THEIRS = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets'


def test_no_fragment_of_ours_stands_in_the_way():
    names = {path.name for path in THEIRS.iterdir()}
    assert 'jhmdb.py' in names
    assert not names & {path.name for path in OURS.iterdir()}
