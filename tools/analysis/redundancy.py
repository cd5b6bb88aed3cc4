"""How much alike the feature maps of a recogniser are, layer by layer.

Along time and along channels: correlation coefficient, RMSE and redundancy
proportion (Table B.1 of the thesis on VA-RED^2), over a test set. Writes
redundancy.csv and .png to --out. Example::

    python tools/analysis/redundancy.py CONFIG CHECKPOINT --videos 100 \
        --out work_dirs/redundancy

rp is the share of pairs of maps with a correlation above --cc and an RMSE
above --rmse, as the thesis prints it; rp_close those with an RMSE below.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.evaluation.redundancy import (
    FIGURES,
    RedundancyMeter,
    watch_feature_maps,
)
from mmskip.experiments import positive, write_csv
from mmskip.experiments.arguments import (
    add_recognizer_arguments,
    load_test_set,
    make_out,
    open_recognizer,
    predict,
)
from mmskip.visualization.plots import plot_redundancy


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    add_recognizer_arguments(parser, 'redundancy')
    parser.add_argument('--cc', type=float, default=0.85, help='threshold')
    parser.add_argument('--rmse', type=float, default=0.001, help='threshold')
    parser.add_argument(
        '--positions',
        type=positive,
        default=1024,
        help='of a map that are compared, on a regular grid (%(default)s)',
    )
    parser.add_argument(
        '--frames',
        type=positive,
        help='of a clip, for models that see each on its own (TSN)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the means over layers, write the rest."""
    args = parse_args(argv)
    out = make_out(args)
    model = open_recognizer(args)
    try:
        meter = RedundancyMeter(args.cc, args.rmse, args.positions)
        with watch_feature_maps(model, meter, args.frames):
            videos = sum(
                len(predict(model, batch))
                for batch in load_test_set(model, args.videos)
            )
    except ValueError as error:
        raise UserError(str(error)) from error
    rows = meter.rows()
    if not rows:
        raise UserError(
            'expected at least one video in the test set, got none'
        )
    table = Table('dimension', *FIGURES, title=f'{videos} videos')
    for row in rows:
        if row['layer'] == 'mean':
            table.add_row(row['axis'], *(f'{row[f]:.3f}' for f in FIGURES))
    Console().print(table)
    write_csv(out / 'redundancy.csv', rows)
    print(plot_redundancy(rows, out / 'redundancy.png'))
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'redundancy'))
