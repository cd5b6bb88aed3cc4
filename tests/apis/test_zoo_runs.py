"""A model that crashes or hangs is a row, and the others go on."""

from mmskip.apis import Limits, ZooModel, run_models
from tests.apis.zoo.failing import check_or_fail

MODES = ('stream', 'plan')


def rows_of(*names, seconds=600.0):
    """Status and reason of each row, by the name of the model."""
    found = {}
    run_models(
        [ZooModel('os', (f'{name}.py',)) for name in names],
        MODES,
        lambda model, rows: found.update(
            {model.name: [(row.mode, row.status, row.reason) for row in rows]}
        ),
        jobs=2,
        limits=Limits(seconds=seconds),
        check=check_or_fail,
    )
    return found


def in_both(status, reason=''):
    return [(mode, status, reason) for mode in MODES]


def test_a_crash_is_a_row():
    assert rows_of('crashes', 'runs', 'ends') == {
        'crashes': in_both('fails', 'the process died of SIGABRT'),
        'runs': in_both('equal'),
        'ends': in_both('fails', 'the process ended with code 3'),
    }


def test_a_hang_is_a_row():
    assert rows_of('hangs', seconds=1.0) == {
        'hangs': in_both('fails', 'timed out after 1 s')
    }
