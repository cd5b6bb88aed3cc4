"""Test a detector, pose estimator or recognizer, whichever the config is."""

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process

import mmskip  # noqa: F401  (makes `_base_ = 'mmskip::...'` known)
from mmskip.apis import UserError, import_host, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import (
    WeightsCheck,
    add_common_arguments,
    build_runner,
    close_launcher,
    enable_visualization,
    limit_recompilations,
    prepare_launcher,
)
from mmskip.apis.models import check_checkpoint, set_work_dir

PREDICTION_SUFFIXES = ('.pkl', '.pickle')
METRIC_SUFFIXES = ('.json', '.yaml', '.yml')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights to test')
    parser.add_argument(
        '--out',
        help='predictions (.pkl) or metrics (.json, .yaml) go to this file',
    )
    parser.add_argument(
        '--dump', help='predictions go to this file (.pkl), beside --out'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test time augmentation (mmdet)'
    )
    parser.add_argument(
        '--badcase', action='store_true', help='analyse bad cases (mmpose)'
    )
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    check_outputs(args)
    cfg = load_config(args.config, args.cfg_options)
    cfg.load_from = check_checkpoint(args.checkpoint)
    host = import_host(cfg)
    limit_recompilations(host)
    set_work_dir(cfg, args.config, args.work_dir)
    for path in (args.out, args.dump):
        if path is not None and path.endswith(PREDICTION_SUFFIXES):
            dump_predictions(cfg, host, path)
    if args.tta:
        augment(cfg, host)
    if args.badcase:
        analyse_bad_cases(cfg, args)
    else:
        enable_visualization(cfg, host, args)
    try:
        prepare_launcher(cfg, args.launcher, args.local_rank)
        metrics = test(cfg)
        if args.out is not None and args.out.endswith(METRIC_SUFFIXES):
            save_metrics(metrics, args.out)
    finally:
        close_launcher()
    return EXIT_OK


def test(cfg: Config) -> dict[str, float]:
    """Test as the config says; returns the metrics."""
    runner = build_runner(cfg)
    runner.register_hook(WeightsCheck(cfg.load_from))
    return runner.test()


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse names of files that say nothing about their contents."""
    suffixes = PREDICTION_SUFFIXES + METRIC_SUFFIXES
    if args.out is not None and not args.out.endswith(suffixes):
        raise UserError(
            f'--out {args.out}: expected a name ending in '
            f'{", ".join(PREDICTION_SUFFIXES)} for predictions or '
            f'{", ".join(METRIC_SUFFIXES)} for metrics'
        )
    if args.dump is not None and not args.dump.endswith(PREDICTION_SUFFIXES):
        raise UserError(
            f'--dump {args.dump}: expected a name ending in '
            f'{", ".join(PREDICTION_SUFFIXES)}'
        )


def dump_predictions(cfg: Config, host: str | None, path: str) -> None:
    """Add the metric that saves predictions to the evaluator."""
    kind = 'mmdet.DumpDetResults' if host == 'mmdet' else 'DumpResults'
    evaluator = cfg.get('test_evaluator') or []
    if not isinstance(evaluator, (list, tuple)):
        evaluator = [evaluator]
    cfg.test_evaluator = [*evaluator, dict(type=kind, out_file_path=path)]


def save_metrics(metrics: dict, path: str) -> None:
    """Write the metrics to a file, once for all processes."""
    if is_main_process():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        plain = {
            key: value.item() if hasattr(value, 'item') else value
            for key, value in metrics.items()
        }
        mmengine.dump(plain, path)


def augment(cfg: Config, host: str | None) -> None:
    """Wrap the model for test time augmentation.

    Without settings in the config, detectors see each image and its mirror
    image, as with mmdet's own tool.

    Raises:
        UserError: Another host's config without ``tta_model`` and
            ``tta_pipeline``.
    """
    if host == 'mmdet':
        cfg.setdefault('tta_model', default_tta_model())
        cfg.setdefault('tta_pipeline', default_tta_pipeline(cfg))
    missing = [k for k in ('tta_model', 'tta_pipeline') if k not in cfg]
    if missing:
        raise UserError(f'--tta needs {" and ".join(missing)} in the config')
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    innermost_dataset(cfg).pipeline = cfg.tta_pipeline


def default_tta_model() -> dict:
    """The settings of mmdet's ``tools/test.py``."""
    nms = dict(type='nms', iou_threshold=0.5)
    return dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))


def default_tta_pipeline(cfg: Config) -> list:
    """The test pipeline with both mirror images packed at its end."""
    meta_keys = (
        'img_id',
        'img_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
        'flip',
        'flip_direction',
    )
    flips = [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)]
    pack = dict(type='PackDetInputs', meta_keys=meta_keys)
    pipeline = deepcopy(innermost_dataset(cfg).pipeline)
    pipeline[-1] = dict(type='TestTimeAug', transforms=[flips, [pack]])
    return pipeline


def innermost_dataset(cfg: Config) -> ConfigDict:
    """The test dataset under its wrappers."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def analyse_bad_cases(cfg: Config, args: argparse.Namespace) -> None:
    """Turn on mmpose's hook that collects the worst predictions.

    Raises:
        UserError: The config has no such hook.
    """
    hook = cfg.get('default_hooks', {}).get('badcase')
    if hook is None:
        raise UserError(
            '--badcase needs default_hooks.badcase in the config; add '
            "badcase=dict(type='BadCaseAnalysisHook')"
        )
    hook.enable = True
    hook.show = args.show
    hook.interval = args.interval
    if args.show:
        hook.wait_time = args.wait_time
    if args.show_dir is not None:
        hook.out_dir = args.show_dir
    if not hook.get('metric'):
        is_loss = hook.get('metric_type', 'loss') == 'loss'
        hook.metric = cfg.model.head.loss if is_loss else cfg.test_evaluator


if __name__ == '__main__':
    sys.exit(run_tool(main, 'test'))
