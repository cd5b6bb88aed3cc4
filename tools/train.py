"""Train a detector, pose estimator or recognizer, whichever the config is."""

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

import mmskip  # noqa: F401  (makes `_base_ = 'mmskip::...'` known)
from mmskip.apis import UserError, import_host, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import (
    WeightsCheck,
    add_common_arguments,
    build_runner,
    check_latest,
    close_launcher,
    enable_visualization,
    limit_recompilations,
    prepare_launcher,
)
from mmskip.apis.models import check_checkpoint, set_work_dir


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='checkpoint to resume from; without a value the latest one in '
        'the work directory',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with automatic mixed precision',
    )
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='do not evaluate during training',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument(
        '--diff-rank-seed',
        action='store_true',
        help='give each process a seed of its own',
    )
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='let CUDNN use deterministic algorithms only',
    )
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    host = import_host(cfg)
    limit_recompilations(host)
    set_work_dir(cfg, args.config, args.work_dir)
    merge_args(cfg, args)
    enable_visualization(cfg, host, args)
    try:
        prepare_launcher(cfg, args.launcher, args.local_rank)
        train(cfg)
    finally:
        close_launcher()
    return EXIT_OK


def train(cfg: Config) -> None:
    """Train as the config says."""
    check_latest(cfg)
    runner = build_runner(cfg)
    runner.register_hook(
        WeightsCheck(
            cfg.get('load_from'), tuning=True, resume=cfg.get('resume', False)
        )
    )
    runner.train()


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put what the command line asks for into the config."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_mixed_precision(cfg)
    if args.auto_scale_lr:
        scale = cfg.get('auto_scale_lr') or {}
        if 'base_batch_size' not in scale:
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size='
                '...) in the config'
            )
        scale.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = (
            None if args.resume == 'auto' else check_checkpoint(args.resume)
        )
    chosen = dict(seed=args.seed) if args.seed is not None else {}
    for name in ('diff_rank_seed', 'deterministic'):
        if getattr(args, name):
            chosen[name] = True
    if chosen:
        cfg.randomness = dict(cfg.get('randomness') or {}, **chosen)


def use_mixed_precision(cfg: Config) -> None:
    """Replace the optimizer wrapper by the one for mixed precision.

    Raises:
        UserError: The config has no optimizer wrapper, or one of its own.
    """
    wrapper = cfg.get('optim_wrapper')
    kind = wrapper.get('type', 'OptimWrapper') if wrapper else None
    if kind not in (
        'OptimWrapper',
        'AmpOptimWrapper',
        OptimWrapper,
        AmpOptimWrapper,
    ):
        raise UserError(
            '--amp expects optim_wrapper of type OptimWrapper or '
            f'AmpOptimWrapper, got {kind!r}'
        )
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


if __name__ == '__main__':
    sys.exit(run_tool(main, 'train'))
