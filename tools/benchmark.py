"""Time of a model on video frames, dense and with Skip-Convolutions.

Both run in one process and take turns, frame by frame: channels_last, with
batch norms folded, in inference mode. Which outputs fire is forced, so that
a share of every layer is active: one blob, scattered blocks of 8 x 8, or
scattered pixels. Inside of them every input changes, outside nothing does.
With --video it is a real video, and the gates are those of the config. The
skipping model follows changes through all of its steps
(mmskip.accelerate). With --compile there is a second pair: the dense
model under torch.compile against the same skipping.

How to read the rows: `macs` is how many times fewer MACs the convolutions of
a skip frame do, `speed-up` how much sooner it is done, and `efficiency` the
second over the first. Static frames cost what `share` says of a dense one.
Beyond the break-even share of active outputs, skipping loses. Medians are
compared. `CPU time` is the speed-up by the time that the CPUs spent on this
process: with one thread (more threads spin while they wait) it says more than
the clock on a machine that does other work. `MiB/stream` is what the memory
of a stream holds between two frames.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch._inductor.config as inductor_config
from torch import Tensor, nn

from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import add_config_options
from mmskip.experiments import (
    PATTERNS,
    Pair,
    best_of_pairs,
    break_even,
    build_pair,
    compile_pair,
    force,
    forced_frames,
    measure,
    show,
    time_layers,
    video_frames,
    write,
)
from mmskip.experiments.benchmark import WARM_UP
from mmskip.native import active_backend
from mmskip.plan import propagate_changes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config of any model')
    add('--part', default='backbone', help='part of the model that is timed')
    add('--size', type=int, nargs=2, default=(256, 256), metavar=('W', 'H'))
    add(
        '--active',
        type=float,
        nargs='+',
        default=[0.0, 0.125, 0.25, 0.4, 0.7, 1.0],
        help='shares of the outputs that fire; 0 is a static frame',
    )
    add('--patterns', nargs='+', choices=PATTERNS, default=['blob'])
    add('--video', help='a video instead of forced outputs')
    add(
        '--threshold',
        type=float,
        default=0.2,
        help='of the gates for --video, if the config has none',
    )
    add(
        '--compile',
        action='store_true',
        help='a second pair: the dense model under torch.compile (takes '
        'minutes) against the same skipping',
    )
    add(
        '--no-propagation',
        action='store_true',
        help='skip layer by layer, each of which finds out for itself what '
        'changed',
    )
    add('--frames', type=int, default=30, help='per row')
    add('--threads', type=int, default=2)
    add('--layers', type=int, default=10, help='rows of the table of layers')
    add('--out', help='folder for CSV, JSON and a plot')
    add_config_options(parser)
    args = parser.parse_args(argv)
    if not all(0 <= share <= 1 for share in args.active):
        parser.error('--active: expected shares from 0 to 1')
    if args.frames < 1 or args.threads < 1:
        parser.error('--frames and --threads: expected at least 1')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    image = torch.randn(1, 3, args.size[1], args.size[0])
    image = image.contiguous(memory_format=torch.channels_last)
    threshold = None if args.video is None else args.threshold
    pair, preprocessor = build_pair(
        args.config, args.cfg_options, args.part, threshold, image
    )
    pairs = [pair]
    if args.compile:
        inductor_config.freezing = True
        pairs.append(compile_pair(pair, image))
    if not args.no_propagation and active_backend() == 'native':
        for pair in pairs:
            propagate_changes(pair.skip)
    with torch.inference_mode():
        rows, layers = (
            time_forced(args, pairs, image)
            if args.video is None
            else time_video(args, pairs, preprocessor)
        )
    result = dict(
        config=str(args.config),
        size=list(args.size),
        frames=args.frames,
        threads=args.threads,
        backend=active_backend(),
        propagation=not args.no_propagation,
        torch=torch.__version__,
        break_even={
            f'{p.name}, {pattern}': break_even(rows, pattern, p.name)
            for p in pairs
            for pattern in args.patterns
            if args.video is None
        },
        rows=rows,
        best=best_of_pairs(rows),
        skip_frame_ms_by_layer=layers,
    )
    show(result, args.layers)
    if args.out is not None:
        write(result, Path(args.out))
    return EXIT_OK


def time_forced(
    args: argparse.Namespace, pairs: Sequence[Pair], image: Tensor
) -> tuple[list[dict], dict[str, float]]:
    """Rows of all patterns and shares; layers of a static frame."""
    number = WARM_UP + args.frames
    rows = []
    for pattern in args.patterns:
        for share in sorted(args.active):
            for pair in pairs:
                force(pair.sizes, pattern, share)
            frames = forced_frames(image, pattern, share, number)
            rows += measure(pairs, frames, pattern, share, counted=1)
    force(pairs[0].sizes, args.patterns[0], 0.0)
    return rows, time_layers(pairs[0].skip, [image] * number)


def time_video(
    args: argparse.Namespace, pairs: Sequence[Pair], preprocessor: nn.Module
) -> tuple[list[dict], dict[str, float]]:
    """A row of each pair, and its layers in a frame, on a video."""
    number = WARM_UP + args.frames
    frames = video_frames(args.video, tuple(args.size), preprocessor, number)
    rows = measure(pairs, frames, 'video', None, counted=number - 1)
    return rows, time_layers(pairs[0].skip, frames)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'benchmark'))
