"""Command lines that several tools share: train, test, convert lists."""

import argparse
import datetime
import gc
import os
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch.distributed as torch_dist

# Its defaults keep the process group that exists when it is imported, for
# good: see close_launcher.
import torch.distributed.nn  # noqa: F401
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmskip.datasets.action_lists import ListReport
from mmskip.plan import PRECISIONS

from .errors import EXIT_INCOMPLETE, EXIT_OK, UserError, one_line
from .models import load_weights

# Missing videos that are named; the rest is counted.
NAMED = 5


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the stock train and test tools have in common."""
    parser.add_argument(
        '--work-dir', help='directory of logs, checkpoints and metrics'
    )
    add_config_options(parser)
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--show-dir', help='directory that painted images are saved in'
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='how long --show shows one image, in seconds',
    )
    parser.add_argument(
        '--interval',
        type=int,
        default=1,
        help='paint one image in so many (mmpose and mmaction)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes the first or the second spelling,
    # depending on its version; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the option that overrides settings of the config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: xxx=yyy; a list is '
        'key="[a,b]" or key=a,b; nested lists and tuples are allowed, '
        'key="[(a,b),(c,d)]", quoted and without spaces',
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a model, and the options of how it runs over videos."""
    parser.add_argument('config', help='config of a detector or pose model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('--device', default='cpu', help="e.g. 'cuda:0'")
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='boxes or keypoints below this score are left out',
    )
    parser.add_argument(
        '--bbox',
        type=float,
        nargs=4,
        metavar=('X1', 'Y1', 'X2', 'Y2'),
        help='where the person is, for top-down pose; default the whole '
        'frame; it stays where it is',
    )
    parser.add_argument(
        '--dense', action='store_true', help='run the model without skipping'
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='float32',
        help='how images and kernels are stored; bfloat16 takes half of the '
        'memory; int8 is fastest and needs --calibration',
    )
    parser.add_argument(
        '--calibration',
        metavar='FILE',
        help='int8.json of `mmskip calibrate --precision int8`',
    )
    add_config_options(parser)


def check_model_arguments(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """End the program if options of :func:`add_model_arguments` conflict."""
    if args.dense and args.precision != 'float32':
        parser.error(
            f'--dense runs in float32, got --precision {args.precision}'
        )
    if (args.precision == 'int8') != (args.calibration is not None):
        parser.error(
            'expected --calibration with --precision int8 and with no other; '
            '`mmskip calibrate CONFIG CHECKPOINT --precision int8 --video '
            'VIDEO --out DIR` writes DIR/int8.json'
        )


def prepare_launcher(cfg: Config, launcher: str, local_rank: int) -> None:
    """Set the launcher; without a GPU, set up gloo processes on the CPU.

    mmengine 0.10.7 selects a CUDA device and wraps the model for one
    whatever the backend is, so that even ``backend='gloo'`` needs a GPU. A
    process group that exists already is used as it is, hence it is made
    here.

    Args:
        cfg: Changed in place: ``launcher``, and on a machine without GPU
            ``env_cfg.dist_cfg.backend`` and ``model_wrapper_cfg``.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: Used where the launcher does not set ``LOCAL_RANK``.

    Raises:
        UserError: ``launcher='pytorch'`` outside torchrun, or
            ``launcher='slurm'`` without a GPU.
    """
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    cfg.launcher = launcher
    if launcher == 'slurm' and get_device() == 'cpu':
        raise UserError(
            '--launcher slurm expects a GPU for each task, but torch sees '
            'none; without GPUs start tools/dist_train.sh on each node, with '
            'NNODES, NODE_RANK and MASTER_ADDR'
        )
    if launcher != 'pytorch':
        return
    missing = [k for k in ('RANK', 'WORLD_SIZE') if k not in os.environ]
    if missing:
        raise UserError(
            '--launcher pytorch expects the environment of torchrun, but '
            f'{" and ".join(missing)} are not set; start it with '
            'tools/dist_train.sh or tools/dist_test.sh'
        )
    if get_device() != 'cpu' or torch_dist.is_initialized():
        return
    dist_cfg = cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})
    backend = dist_cfg.get('backend', 'nccl')
    if backend == 'nccl':
        backend = dist_cfg['backend'] = 'gloo'
        if os.environ['RANK'] == '0':
            print('CUDA is not available: backend gloo instead of nccl')
    timeout = datetime.timedelta(seconds=dist_cfg.get('timeout', 1800))
    torch_dist.init_process_group(backend=backend, timeout=timeout)
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.setdefault('device_ids', None)
    cfg.model_wrapper_cfg = wrapper


def close_launcher() -> None:
    """End the process group and its threads.

    A thread of gloo that lives on may still hold the tensors of the last
    broadcast while Python ends, and giving those back then aborts the
    process. The threads end with the last reference to the group: whoever
    calls this lets go of the runner, which holds some, beforehand.
    """
    if torch_dist.is_initialized():
        # Ours is the last reference: it waits for the threads without the
        # GIL, for which one of them may be waiting; what else has referred to
        # the group, as DistributedDataParallel, would wait with it for ever.
        group = torch_dist.group.WORLD
        torch_dist.destroy_process_group()
        gc.collect()
        del group


def enable_visualization(
    cfg: Config, host: str | None, args: argparse.Namespace
) -> None:
    """Turn the host's visualization hook on if ``--show*`` asks for it.

    Args:
        cfg: Changed in place, in ``default_hooks.visualization``.
        host: What :func:`mmskip.apis.import_host` returned.
        args: With ``show``, ``show_dir``, ``wait_time`` and ``interval``.

    Raises:
        UserError: The config has no visualization hook.
    """
    if not args.show and args.show_dir is None:
        return
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError(
            '--show and --show-dir need default_hooks.visualization in the '
            "config; add visualization=dict(type='...VisualizationHook')"
        )
    hook.show = args.show
    if args.show:
        hook.wait_time = args.wait_time
    if host == 'mmdet':
        hook.draw = True
        hook.test_out_dir = args.show_dir
    else:
        hook.enable = True
        hook.out_dir = args.show_dir
        hook.interval = args.interval


def limit_recompilations(host: str | None) -> None:
    """Let mmdet bound torch.compile's cache, as its stock tools do."""
    if host == 'mmdet':
        import_module('mmdet.utils').setup_cache_size_limit_of_dynamo()


def build_runner(cfg: Config) -> Runner:
    """Build the config's own runner type, or mmengine's ``Runner``.

    Raises:
        UserError: ``work_dir`` cannot be made or written to.
    """
    _make_work_dir(cfg.work_dir)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


class WeightsCheck(Hook):
    """Refuse a checkpoint of another model, or one that is not whole.

    mmengine lists what does not fit in a warning and goes on with random
    weights. To train from a checkpoint that is not resumed from, some may
    be missing or have another shape.

    Args:
        path: What the message calls the checkpoint, if it is known.
        tuning: Whether a training begins from it.
        resume: Whether that training is resumed.
    """

    # Before hooks that take it for granted that all is there.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        path: str | None,
        tuning: bool = False,
        resume: bool = False,
    ) -> None:
        self.path = path or 'the latest checkpoint'
        self.tuning = tuning and not resume
        self.resume = resume

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the weights; mmengine loads them once more.

        Raises:
            UserError: They are not those of the model, or the file has no
                training to resume.
            InputError: Its learned gates are not those of the model.
        """
        load_weights(runner.model, checkpoint, self.path, self.tuning)
        missing = _missing_to_resume(checkpoint) if self.resume else []
        if missing:
            raise UserError(
                f'expected a training to resume in {self.path}, got a file '
                f'without {", ".join(missing)}; begin with its weights '
                'instead: load_from in the config, without --resume'
            )


def check_latest(cfg: Config) -> None:
    """Check that a training which resumes from its folder can do so.

    Raises:
        UserError: ``last_checkpoint`` there is empty, or names a file that
            does not exist.
    """
    if not cfg.get('resume') or cfg.get('load_from'):
        return
    file = Path(cfg.work_dir, 'last_checkpoint')
    if not file.is_file():
        return
    latest = file.read_text(errors='replace').strip()
    if '://' in latest or Path(latest).is_file():
        return
    raise UserError(
        f'{file}: expected the path of the latest checkpoint, got '
        f'{latest!r}, which is no file; name the one to resume from '
        f'(--resume FILE), or remove {file.name} to begin anew'
    )


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


def _missing_to_resume(checkpoint: dict[str, Any]) -> list[str]:
    """Name what a training needs and the checkpoint has not."""
    needed = [
        key
        for key in ('meta', 'message_hub', 'optimizer')
        if key not in checkpoint
    ]
    meta = checkpoint.get('meta', {})
    return needed + [f'meta.{k}' for k in ('epoch', 'iter') if k not in meta]


def _make_work_dir(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'cannot write to work directory {path}: {one_line(error)}'
        ) from error
    if not os.access(path, os.W_OK):
        raise UserError(
            f'cannot write to work directory {path}: no permission'
        )


def _print_report(report: ListReport) -> None:
    print(f'{report.path}: {report.written:,} videos')
    if report.missing:
        named = ', '.join(report.missing[:NAMED])
        more = ', ...' if len(report.missing) > NAMED else ''
        print(
            f'  {len(report.missing):,} annotated videos are not on disk: '
            f'{named}{more}'
        )
