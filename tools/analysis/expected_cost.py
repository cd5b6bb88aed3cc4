"""Expected against measured cost of the learned gates of a model.

Training weighs the cost that the gates' probabilities let expect; inference
rounds them. Streams the test set and compares both, layer by layer, outside
reference frames. Writes expected_cost.csv, .png and .json to --out. Example::

    python tools/analysis/expected_cost.py CONFIG CHECKPOINT \
        --out work_dirs/expected
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track

from mmskip.apis import UserError, init_model, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.models import check_checkpoint
from mmskip.engine import VideoHook
from mmskip.engine.video_hook import VideoOrder
from mmskip.evaluation import GateShares, GateWatch
from mmskip.experiments import (
    TEST_KEYS,
    add_output_arguments,
    keep,
    make_folder,
    make_recipe,
    positive,
    read_back,
    write_csv,
)
from mmskip.registry import HOOKS
from mmskip.skip_conv import StreamState, stream
from mmskip.visualization import plot_expected_vs_measured

GIGA = 1e9
SHARES = ('expected', 'drawn', 'measured')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights')
    add_output_arguments(parser)
    parser.add_argument(
        '--max-frames',
        type=positive,
        help='only so many frames of the test set',
    )
    parser.add_argument('--device', default='cpu', help='such as cuda:0')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    checkpoint = check_checkpoint(args.checkpoint)
    make_folder(args)
    console = Console()
    recipe = make_recipe(
        cfg, TEST_KEYS, checkpoint, max_frames=args.max_frames
    )
    path = args.out / 'expected_cost.json'
    kept = None if args.again else read_back(path, recipe)
    if kept is None:
        result = measure(cfg, checkpoint, args, console)
        kept = keep(path, recipe, config=args.config, **result)
    write_csv(args.out / 'expected_cost.csv', kept['rows'])
    plot_expected_vs_measured(kept['rows'], args.out / 'expected_cost.png')
    total = kept['total']
    console.print(
        f'{total["gmac_per_frame"]:.3g} GMAC per frame in gated layers; '
        + ', '.join(f'{name} {total[name]:.4f}' for name in SHARES)
        + ' of them',
        highlight=False,
    )
    console.print(f'Written to {args.out}', markup=False, soft_wrap=True)
    return EXIT_OK


def measure(
    cfg: Config, checkpoint: str, args: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """Stream the test set and count.

    Raises:
        UserError: The model has no learned gates, or no frame follows a
            reference frame.
    """
    torch.manual_seed(0)  # what is drawn is the same the next time
    hook = video_hook(cfg)
    model = init_model(cfg, checkpoint, args.device)
    try:
        watch = GateWatch(model)
    except ValueError as error:
        raise UserError(str(error)) from error
    cfg.test_dataloader.batch_size = 1
    loader = Runner.build_dataloader(cfg.test_dataloader)
    frames = min(len(loader), args.max_frames or len(loader))
    order = VideoOrder(
        loader, 'test_dataloader', hook.video_key, hook.reset_interval
    )
    order.start()
    state = StreamState()
    with stream(model, state), watch.watch(state), torch.no_grad():
        for data in track(
            islice(loader, frames), 'Frames', frames, console=console
        ):
            if order.follow(data) == [True]:
                state.reset()
            model.test_step(data)
    order.finish()
    if not watch.layers:
        raise UserError('no frame follows a reference frame of its video')
    rows = [
        dict(layer=name, part=name.split('.')[0], **figures(shares, frames))
        for name, shares in watch.layers.items()
    ]
    total = figures(watch.total(), frames)
    return dict(frames=frames, total=total, rows=rows)


def figures(shares: GateShares, frames: int) -> dict[str, float]:
    """Dense MACs per frame, and the shares of them."""
    gmac = shares.dense / frames / GIGA
    return dict(
        gmac_per_frame=gmac, **{name: shares.share(name) for name in SHARES}
    )


def video_hook(cfg: Config) -> VideoHook:
    """The hook of the config, which tells where streams restart.

    Raises:
        UserError: There is none.
    """
    for hook in cfg.get('custom_hooks') or ():
        if hook['type'] == 'mmskip.VideoHook':
            return HOOKS.build(dict(hook))
    raise UserError(
        "expected dict(type='mmskip.VideoHook') in custom_hooks of "
        f'{cfg.filename}'
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'expected_cost'))
