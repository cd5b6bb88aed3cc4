"""The command line that the converters of action data sets share."""

import argparse
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from mmskip.datasets.action_lists import ListReport

from .errors import EXIT_INCOMPLETE, EXIT_OK, UserError

# Missing videos that are named; the rest is counted.
NAMED = 5


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every converter."""
    parser.add_argument(
        '--out-dir',
        type=Path,
        required=True,
        help='folder to write the lists to, the data_root of the config',
    )
    parser.add_argument(
        '--rawframes',
        action='store_true',
        help='list folders of frames instead of video files',
    )


def report_lists(convert: Callable[[], Iterable[ListReport]]) -> int:
    """Run a converter, print what it wrote, and what it warned of.

    Args:
        convert: Yields a report for every list.

    Returns:
        The exit code: 1 if videos are missing, else 0.

    Raises:
        UserError: A file cannot be read, or is not what it should be.
    """
    missing = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            for report in convert():
                missing += len(report.missing)
                _print_report(report)
        except (OSError, ValueError) as error:
            raise UserError(str(error)) from error
        finally:
            for warning in caught:
                print(f'warning: {warning.message}')
    return EXIT_INCOMPLETE if missing else EXIT_OK


def _print_report(report: ListReport) -> None:
    print(f'{report.path}: {report.written:,} videos')
    if report.missing:
        named = ', '.join(report.missing[:NAMED])
        more = ', ...' if len(report.missing) > NAMED else ''
        print(
            f'  {len(report.missing):,} annotated videos are not on disk: '
            f'{named}{more}'
        )
