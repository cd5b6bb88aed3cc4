"""Let the gates of a converted model learn from videos, without labels.

The dense model teaches: the thresholds of all layers move so that the outputs
stay those of the dense model at the MACs, or the error, that is asked for.
The weights stay as they are, unless --layer-rate says otherwise. Writes to
--out a config that inherits CONFIG and names a threshold for every layer
(NAME_tuned.py, for all other tools, with the same checkpoint), tune.csv and
.png (cost and error of each step) and tune.json, with what the gates are
worth on the last part of each video, which they did not learn on. Example::

    python tools/tune.py CONFIG CHECKPOINT my_video.mp4 --macs 0.15 \
        --minutes 15 --out work_dirs/tuned

With --gate gumbel each gate also learns a kernel, but for those of depthwise
layers; these are in NAME_tuned.pth, the checkpoint to use then. A recognizer
samples one clip from each --segment of a video; the last of them are kept
aside. A config without conversions gets those of
configs/_base_/conversions/output_norm.py. A run that was killed goes on with
--resume. The algorithm is in mmskip/apis/tuning.py.
"""

import argparse
import copy
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, init_dist, is_distributed
from rich.console import Console
from rich.table import Table
from torch import nn

import mmskip
from mmskip.apis import UserError, init_model, load_config
from mmskip.apis.calibration import (
    calibrated_conversions,
    is_norm_gated,
    rounded,
    run_tensors,
    write_calibrated,
)
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import (
    add_config_options,
    close_launcher,
    prepare_launcher,
)
from mmskip.apis.tuning import (
    Footage,
    GateTuner,
    TuneSettings,
    freeze_thresholds,
    learn_thresholds,
    read_footage,
    save_state,
)
from mmskip.core import count_macs
from mmskip.evaluation import (
    Budget,
    OutputError,
    fit_scale,
    norm_gates,
)
from mmskip.evaluation.agreement import agreement
from mmskip.experiments import positive, write_csv, write_json
from mmskip.skip_conv import stream
from mmskip.visualization import new_figure, save_figure

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / 'configs/_base_/conversions/output_norm.py'
START, EQUAL, TUNED = 'as they were', 'as they were, equal MACs', 'tuned'
# Rounds that are timed before it is known how many the time allows.
TIMED_ROUNDS = 1
SECONDS_BETWEEN_LINES = 10.0
LONGEST = 10**6
# Options that a run which goes on has to share with the one before.
IDENTITY = (
    'config',
    'checkpoint',
    'video',
    'gate',
    'segment',
    'held',
    'most',
    'bbox',
)
NORMS = {
    'output-norm': 'mmskip.OutputNormGate',
    'input-norm': 'mmskip.InputNormGate',
}
GUMBEL = 'gumbel'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'config', help='of a detector, a pose estimator or a recognizer'
    )
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        'video', nargs='+', help='files or folders of images to learn from'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder')
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        '--macs',
        type=float,
        metavar='SHARE',
        help="to spend, of the dense model's, e.g. 0.15",
    )
    budget.add_argument(
        '--max-error',
        type=float,
        metavar='ERROR',
        help='of the outputs, as of mmskip calibrate, e.g. 0.1',
    )
    parser.add_argument(
        '--gate',
        choices=(*NORMS, GUMBEL),
        help='that learns, in place of those of the config; gumbel begins '
        'with these',
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        '--minutes', type=float, default=15.0, help='to learn (default: 15)'
    )
    length.add_argument(
        '--rounds',
        type=int,
        help='in each of which every stream runs a segment, in place of '
        '--minutes; 0 leaves the gates as they are',
    )
    for name, default, meaning in (
        ('--streams', 2, 'videos that run side by side'),
        ('--frames', 3, 'frames over which gradients reach back'),
        ('--segment', 36, 'frames of a segment; for a recognizer, of a clip'),
        ('--most', 1000, 'frames of each video to read, from its start'),
    ):
        parser.add_argument(
            name,
            type=positive,
            default=default,
            help=f'{meaning} (default: {default})',
        )
    parser.add_argument(
        '--held',
        type=float,
        default=0.2,
        help='share of each video, its end, to check on (default: 0.2)',
    )
    parser.add_argument(
        '--rate',
        type=float,
        default=0.03,
        help='learning rate of the thresholds (default: 0.03)',
    )
    parser.add_argument(
        '--layer-rate',
        type=float,
        default=0.0,
        help='learning rate of the layers; writes NAME_tuned.pth '
        '(default: 0, they stay as they are)',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--bbox',
        type=float,
        nargs=4,
        metavar=('X1', 'Y1', 'X2', 'Y2'),
        help='box of a pose estimator (default: the whole frame)',
    )
    parser.add_argument('--resume', action='store_true', help='go on in --out')
    parser.add_argument('--device', default='cpu', help="e.g. 'cuda:0'")
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch'),
        default='none',
        help="torch's, of several processes, each with --streams of its own",
    )
    parser.add_argument(
        '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    if not 0 < args.held < 1:
        parser.error(f'--held must be in (0, 1), got {args.held}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    try:
        settings = TuneSettings(
            args.macs,
            args.max_error,
            args.streams,
            args.frames,
            args.rate,
            args.layer_rate,
            seed=args.seed,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    cfg = converted_config(args)
    takes_frames = cfg.get('default_scope') != 'mmaction'
    if takes_frames and args.segment % args.frames:
        raise UserError(
            f'--segment must be a multiple of --frames {args.frames}, got '
            f'{args.segment}'
        )
    prepare_launcher(cfg, args.launcher, args.local_rank)
    if args.launcher != 'none' and not is_distributed():
        init_dist(args.launcher, backend='gloo')
    try:
        run(args, cfg, settings)
    finally:
        close_launcher()
    return EXIT_OK


def run(args: argparse.Namespace, cfg: Config, settings: TuneSettings) -> None:
    """Let gates learn; the first process writes what came of it."""
    console = Console(quiet=get_rank() > 0)
    model = init_model(cfg, args.checkpoint, args.device)
    footage = read_footage(
        model, args.video, args.segment, args.held, args.most, args.bbox
    )
    console.print(
        f'read {sum(len(s.frames) for s in footage.learn)} frames to learn on '
        f'and {sum(len(s.frames) for s in footage.held)} to check',
        highlight=False,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    start = {n: g.threshold for n, g in norm_gates(model).items()}
    tuner = tune(model, footage, settings, args, console)
    thresholds = freeze_thresholds(model)
    if not get_rank():
        finish(args, cfg, model, footage, start, thresholds, tuner, console)


def converted_config(args: argparse.Namespace) -> Config:
    """Load the config; one without conversions gets the shipped ones.

    Raises:
        UserError: Its conversions have no norm gate.
    """
    cfg = load_config(args.config, args.cfg_options)
    if 'conversions' not in cfg.model:
        cfg.custom_imports = dict(imports=['mmskip'])
        cfg.model.arch = cfg.model.type
        cfg.model.type = 'mmskip.ConvertedModel'
        cfg.model.conversions = Config.fromfile(SHIPPED).conversions
    gated = [c for c in cfg.model.conversions if is_norm_gated(c)]
    if not gated:
        raise UserError(
            f'{args.config}: expected model.conversions with a norm gate, '
            'got none; see configs/_base_/conversions/output_norm.py'
        )
    if args.gate in NORMS:
        for conversion in gated:
            conversion.gate.type = NORMS[args.gate]
    return cfg


def tune(
    model: nn.Module,
    footage: Footage,
    settings: TuneSettings,
    args: argparse.Namespace,
    console: Console,
) -> GateTuner:
    """Let the gates of a model learn, and keep the state after each round."""
    learn_thresholds(model, kernels=args.gate == GUMBEL)
    tuner = GateTuner(model, footage.learn, settings, footage.num_frames)
    path, rounds = args.out / 'tune.pth', args.rounds
    about = {name: str(getattr(args, name)) for name in IDENTITY}
    if args.resume and path.exists():
        state = torch.load(path, map_location=args.device, weights_only=True)
        if state.get('about') != about:
            raise UserError(
                f'--resume: expected {path} to be of a run with {about}, got '
                f'{state.get("about")}; take the same, or another --out'
            )
        tuner.load_state_dict(state['tuner'])
        rounds = state['rounds']
        console.print(
            f'goes on after {tuner.rounds_done} of {rounds} rounds',
            highlight=False,
        )
    began = told = time.perf_counter()
    before = len(tuner.steps)
    until = TIMED_ROUNDS if rounds is None else None
    while True:
        total = LONGEST if rounds is None else rounds
        done = tuner.rounds_done
        for _ in tuner.run(total, until or tuner.rounds_done + 1):
            now = time.perf_counter()
            if now - told > SECONDS_BETWEEN_LINES:
                told = now
                each = (now - began) / (len(tuner.steps) - before)
                tell(tuner, rounds, each, console)
        if rounds is None:
            rounds = rounds_within(args.minutes, began, tuner)
            until = None
        if not get_rank():
            state = dict(tuner=tuner.state_dict(), rounds=rounds, about=about)
            save_state(path, state)
        if tuner.rounds_done >= rounds or tuner.rounds_done == done:
            return tuner


def rounds_within(minutes: float, began: float, tuner: GateTuner) -> int:
    """Tell how many rounds fit into the time, by those that are done."""
    seconds = (time.perf_counter() - began) / tuner.rounds_done
    rounds = torch.tensor(int(60 * minutes / seconds))
    if is_distributed():
        torch.distributed.all_reduce(rounds, torch.distributed.ReduceOp.MIN)
    return max(tuner.rounds_done, int(rounds))


def tell(
    tuner: GateTuner,
    rounds: int | None,
    seconds_per_step: float,
    console: Console,
) -> None:
    """Print how far it is."""
    recent = tuner.steps[-10:]
    mean = [sum(column) / len(recent) for column in zip(*recent, strict=True)]
    loss, error, share, _ = mean
    where, left = f'round {tuner.rounds_done + 1}', ''
    if rounds is not None:
        still = rounds * tuner.steps_per_round - len(tuner.steps)
        where += f'/{rounds}'
        left = f', {seconds_per_step * still:.0f} s left'
    console.print(
        f'{where}: loss {loss:.4f}, error {error:.3f} at {share:.1%} of the '
        f'MACs{left}',
        highlight=False,
        soft_wrap=True,
    )


def finish(
    args: argparse.Namespace,
    cfg: Config,
    model: nn.Module,
    footage: Footage,
    start: Mapping[str, float],
    thresholds: Mapping[str, float],
    tuner: GateTuner,
    console: Console,
) -> None:
    """Fit the budget, write the config, and measure what it is worth."""
    name = f'{Path(args.config).stem}_tuned'
    before = after = fast_model(cfg, args.checkpoint, args)
    kernels = any(gate.has_kernel for gate in norm_gates(model).values())
    conversions = cfg.model.conversions
    if args.layer_rate or kernels:
        weights = args.out / f'{name}.pth'
        state, meta = model.state_dict(), dict(dataset_meta=model.dataset_meta)
        torch.save(dict(state_dict=state, meta=meta), weights)
        learned = copy.deepcopy(cfg)
        learned.model.conversions = calibrated_conversions(
            model, conversions, thresholds
        )
        after = fast_model(learned, str(weights), args)
    console.print('brings the thresholds to the budget', highlight=False)
    meter = meter_of(after, footage)
    if tuner.rounds_done:
        thresholds = fit(meter, thresholds, args)
    spent = Budget(max_share=meter(thresholds).share)
    if before is not after:
        meter = meter_of(before, footage)
    same = fit_scale(meter, start, spent, 256.0, 11)
    config = args.out / f'{name}.py'
    stock = 'conversions' not in load_config(args.config).model
    write_calibrated(
        config,
        args.config,
        calibrated_conversions(model, conversions, thresholds),
        'tune',
        cfg.model.arch if stock else None,
    )
    console.print('looks at what was kept aside', highlight=False)
    candidates = {START: (before, start)}
    if same is not None:
        candidates[EQUAL] = before, same.thresholds
    candidates[TUNED] = after, thresholds
    rows = compare(before, footage, candidates)
    report(args, rows, thresholds, tuner, console)
    console.print(f'Written: {config}', markup=False, soft_wrap=True)


def fast_model(
    cfg: Config, checkpoint: str, args: argparse.Namespace
) -> nn.Module:
    """A model that runs in plans."""
    model = init_model(cfg, checkpoint, args.device)
    mmskip.accelerate(model)
    return model


def meter_of(model: nn.Module, footage: Footage) -> OutputError:
    """Measure what thresholds do on the frames that show that."""
    return OutputError(
        model,
        [segment.frames for segment in footage.fit],
        partial(run_tensors, model),
        footage.num_frames,
    )


def fit(
    meter: OutputError,
    thresholds: Mapping[str, float],
    args: argparse.Namespace,
) -> dict[str, float]:
    """Find the joint factor on all thresholds that meets the budget.

    In learning decisions are drawn; here they are those of a stream.
    """
    budget = Budget(args.max_error, args.macs)
    found = fit_scale(meter, thresholds, budget, 16.0, 8)
    if found is None:
        raise UserError(
            f'expected gates that keep to {budget}, got none around what was '
            'learned; allow more, or learn longer'
        )
    return rounded(found.thresholds)


def compare(
    teacher: nn.Module,
    footage: Footage,
    candidates: Mapping[str, tuple[nn.Module, Mapping[str, float]]],
) -> list[dict[str, Any]]:
    """Tell how predictions agree with the dense ones, and what they cost."""
    frames = [segment.frames for segment in footage.held]
    with torch.no_grad():
        dense = [s for f in chain(*frames) for s in teacher.test_step(own(f))]
    rows = []
    for title, (model, thresholds) in candidates.items():
        for name, gate in norm_gates(model).items():
            gate.threshold = thresholds[name]
        found, spent, full = [], 0, 0
        for clip in frames:
            with (
                torch.no_grad(),
                stream(model, num_frames=footage.num_frames),
                count_macs(model) as ledger,
            ):
                for frame in clip:
                    found += model.test_step(own(frame))
            spent += ledger.total().spent
            full += ledger.total().dense
        measure, value = agreement(dense, found)
        rows.append(
            dict(
                gates=title,
                frames=len(dense) * footage.num_frames,
                share=spent / full,
                reduction=full / spent,
                measure=measure,
                agreement=value,
            )
        )
    return rows


def own(frame: Mapping[str, Any]) -> dict[str, Any]:
    """A batch whose lists and samples the model may write into."""
    return dict(
        inputs=list(frame['inputs']),
        data_samples=[sample.clone() for sample in frame['data_samples']],
    )


def report(
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
    thresholds: Mapping[str, float],
    tuner: GateTuner,
    console: Console,
) -> None:
    """Write and print what was learned and what it is worth."""
    steps = [dict(step=i, **s._asdict()) for i, s in enumerate(tuner.steps)]
    if steps:
        write_csv(args.out / 'tune.csv', steps)
        draw(steps, tuner.steps_per_round, args.out / 'tune.png')
    write_json(
        args.out / 'tune.json',
        dict(
            config=args.config,
            checkpoint=args.checkpoint,
            videos=args.video,
            rounds=tuner.rounds_done,
            held_out=rows,
            thresholds=dict(thresholds),
        ),
    )
    table = Table('gates', 'MACs', 'fewer', rows[0]['measure'])
    for row in rows:
        table.add_row(
            row['gates'],
            f'{row["share"]:.1%}',
            f'{row["reduction"]:.2f}x',
            f'{row["agreement"]:.1f}',
        )
    console.print(
        f'On {rows[0]["frames"]} frames that were kept aside, against the '
        'dense model:',
        highlight=False,
    )
    console.print(table)


def draw(
    steps: Sequence[Mapping[str, Any]], steps_per_round: int, path: Path
) -> None:
    """Plot error and MACs, means of whole rounds: they begin alike."""
    figure, axes = new_figure()
    other = axes.twinx()
    for axis, key, color in (
        (axes, 'error', 'tab:blue'),
        (other, 'share', 'tab:orange'),
    ):
        values = torch.tensor([step[key] for step in steps])
        means = [v.mean().item() for v in values.split(steps_per_round)]
        axis.plot(range(1, len(means) + 1), means, color=color, marker='.')
        axis.set_ylim(bottom=0)
    axes.set_xlabel('round')
    axes.set_ylabel('relative error of the outputs', color='tab:blue')
    other.set_ylabel("share of the dense model's MACs", color='tab:orange')
    save_figure(figure, path)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'tune'))
