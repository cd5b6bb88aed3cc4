"""Draw feature maps of a dynamic convolution, the rebuilt ones in red.

As Fig. B-2 and B-3 of the thesis on VA-RED^2, for the raw outputs of the
convolution, before batch norm and ReLU. Writes feature_maps.png and .csv
(how far rebuilt maps are from computed ones) to --out. Example::

    python tools/analysis/feature_maps.py CONFIG CHECKPOINT \
        --layer backbone.layer1.0.conv1.conv --time 1 --channels 1

--time and --channels let all layers take one option (0: all, 1: a half, 2: a
quarter) in place of what the gates choose.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import cv2
from torch import nn

from mmskip import force_routing
from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.evaluation.redundancy import (
    LayerMaps,
    capture_maps,
    dynamic_layers,
)
from mmskip.experiments import positive, write_csv
from mmskip.experiments.arguments import (
    add_recognizer_arguments,
    load_test_set,
    make_out,
    open_recognizer,
    predict,
)
from mmskip.visualization.routing import draw_map_grids


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    add_recognizer_arguments(parser, 'feature_maps')
    parser.add_argument('--layer', help='default: the first dynamic one')
    parser.add_argument(
        '--video', type=int, default=0, help='of the test set, from 0'
    )
    parser.add_argument(
        '--view', type=int, default=0, help='clip and crop, from 0'
    )
    parser.add_argument('--time', type=int, help='option of all layers')
    parser.add_argument('--channels', type=int, help='option of all layers')
    parser.add_argument(
        '--most', type=positive, default=8, help='rows and columns'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one video and draw."""
    args = parse_args(argv)
    out = make_out(args)
    model = open_recognizer(args)
    batch = find_video(model, args.video)
    forced = nullcontext()
    if args.time is not None or args.channels is not None:
        forced = force_routing(model, args.time or 0, args.channels or 0)
    try:
        layer = args.layer or dynamic_layers(model)[0]
        with forced:
            run = partial(predict, model, batch)
            maps = capture_maps(model, layer, run, args.view)
    except ValueError as error:
        raise UserError(str(error)) from error
    write_csv(out / 'feature_maps.csv', distances(layer, maps))
    path = out / 'feature_maps.png'
    image = draw_map_grids(*(part.numpy() for part in maps), most=args.most)
    if not cv2.imwrite(str(path), image):
        raise UserError(f'{path}: expected a path that can be written')
    print(
        f'{layer}: {int(maps.channels.sum())} of {len(maps.channels)} '
        f'channels and {int(maps.frames.sum())} of {len(maps.frames)} frames '
        'computed'
    )
    print(path)
    return EXIT_OK


def find_video(model: nn.Module, number: int) -> dict:
    """A batch of one video of the test set.

    Raises:
        UserError: There are fewer.
    """
    seen = 0
    for batch in load_test_set(model, number + 1):
        count = len(batch['inputs'])
        if seen <= number < seen + count:
            place = slice(number - seen, number - seen + 1)
            return {key: values[place] for key, values in batch.items()}
        seen += count
    raise UserError(
        f'--video {number}: expected 0 to {seen - 1}, the videos of the test'
    )


def distances(layer: str, maps: LayerMaps) -> list[dict[str, object]]:
    """RMSE of each map from the one that is computed in full."""
    rmse = (maps.full - maps.mixed).square().mean((2, 3)).sqrt()
    return [
        dict(
            layer=layer,
            channel=channel,
            frame=frame,
            computed=bool(maps.channels[channel] and maps.frames[frame]),
            rmse=float(rmse[channel, frame]),
        )
        for channel in range(rmse.shape[0])
        for frame in range(rmse.shape[1])
    ]


if __name__ == '__main__':
    sys.exit(run_tool(main, 'feature_maps'))
