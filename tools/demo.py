"""The whole of mmskip on one toy: data, training, table, plot, video.

Makes a toy UA-DETRAC, trains a small stock mmdet detector on it, evaluates
it dense, with Skip-Conv and with the frame-skip baseline, and writes to
``work_dirs/demo``: summary.json, summary.csv, ap_vs_gmac.png, overlay.mp4 and
overlay.png. Times are taken on pictures as large as those of UA-DETRAC, and
go to times.csv. Run again, it reuses the data, the trained detector and
the results.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

import mmskip
from mmskip import MacCount
from mmskip.apis import (
    FramePipeline,
    FrameResult,
    UserError,
    init_model,
    stream_video,
)
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.experiments import (
    RIVALS,
    Done,
    Job,
    RawOutputs,
    Tell,
    ToolRuns,
    make_row,
    run_jobs,
    slug,
    write_csv,
    write_json,
)
from mmskip.experiments.jobs import Children
from mmskip.visualization import plot_accuracy_vs_macs, print_table

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / 'configs/toy'
DENSE = CONFIGS / 'retinanet_r18-w32_toy-ua-detrac.py'
SKIP = CONFIGS / 'skip-conv-output-norm_retinanet_r18-w32_toy-ua-detrac.py'
KEYFRAME = CONFIGS / 'keyframe_retinanet_r18-w32_toy-ua-detrac.py'
GATE = 'model.conversions.0.gate'
MEMORY = 'model.conversions.0.memory'
SEED = 0
#: Width and height of the pictures of UA-DETRAC.
LARGE = (960, 540)
#: How often each method runs over the video that is timed.
TURNS = 3


def methods() -> list[dict[str, Any]]:
    """The rows of the table: method, setting, config and its options.

    The row marked ``timed`` of each method is the one that is timed.
    """
    shipped = Config.fromfile(SKIP).threshold
    rows = [dict(method='dense', config=DENSE, options={}, timed=True)]
    for factor in (0.5, 1.0, 2.0):
        rows.append(
            dict(
                method='output_norm',
                setting=f'threshold {shipped * factor:.3g}',
                config=SKIP,
                options={f'{GATE}.threshold': shipped * factor},
                timed=factor == 1.0,
            )
        )
    rows.append(
        dict(
            method='output_norm_previous',
            setting=f"threshold {shipped:.3g}, the paper's memory",
            config=SKIP,
            options={MEMORY: 'previous'},
            timed=True,
        )
    )
    rows.append(
        dict(
            method='input_norm',
            setting='threshold 0.06, absolute',
            config=SKIP,
            options={
                f'{GATE}.type': 'mmskip.InputNormGate',
                f'{GATE}.threshold': 0.06,
                f'{GATE}.relative': False,
            },
            timed=False,
        )
    )
    for interval in (2, 3, 4):
        rows.append(
            dict(
                method='keyframe',
                setting=f'every {interval} frames',
                config=KEYFRAME,
                options={'model.interval': interval},
                timed=interval == 3,
            )
        )
    return rows


def evaluate(
    rows: list[dict[str, Any]], work_dir: Path, console: Console
) -> tuple[list[dict], Path]:
    """Train the dense detector and test all rows, unless that was done.

    Returns:
        The rows of the table, and the detector's checkpoint.
    """
    runs = ToolRuns(ROOT / 'tools')

    def train(given: Mapping[str, Any], tell: Tell) -> Done:
        path = runs.train(DENSE, None, {}, SEED, work_dir, tell)
        return Done(path, _short(path))

    def test(row: dict[str, Any]) -> Job:
        name = f'{row["method"]} {row.get("setting", "")}'.strip()

        def work(given: Mapping[str, Any], tell: Tell) -> Done:
            result = runs.test(
                row['config'],
                given['detector'],
                row['options'],
                work_dir / 'tests' / slug(name),
                tell,
            )
            found = make_row(
                row['method'], row.get('setting', ''), result.metrics
            )
            text = (
                f'AP {found["AP"]:.3f}, {found["reduction"]:.2f}x fewer MACs'
            )
            return Done(found, text, result.reused)

        return Job(name, work, needs=('detector',))

    # Trained for as long as some thirty tests take.
    jobs = [Job('detector', train, effort=30), *map(test, rows)]
    values, failed = run_jobs(jobs, 1, console, runs.stop)
    if failed:
        raise UserError(next(iter(failed.values())))
    checkpoint = values.pop('detector')
    return list(values.values()), checkpoint


def time_methods(
    rows: list[dict[str, Any]], checkpoint: Path, images: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Time frames, from preparing one to its detections.

    The methods take turns over one video, in one process; medians over the
    turns. The first frame of a video is computed as a whole and prepares
    what the others need.

    Args:
        rows: Those marked ``timed`` are.
        checkpoint: Of the detector.
        images: The video.

    Returns:
        A row for each method: what it is, MACs, ``ms_per_frame``, the mean
        over all frames but the first; ``ms_with_first``; ``ms_first``.
    """
    models = {}
    for row in rows:
        if row['timed']:
            models[row['method'], row.get('setting', '')] = init_model(
                str(row['config']), checkpoint, cfg_options=row['options']
            )
    for model in models.values():
        mmskip.accelerate(model)
    dense = init_model(str(DENSE), checkpoint)
    missing = run_in_openvino(dense, images[0])
    if missing:
        Console().print(f'There is no row of OpenVINO: {missing}')
    else:
        models['openvino', 'dense, float32'] = dense
    turns: dict[tuple, list[list[FrameResult]]] = {key: [] for key in models}
    for _ in track(range(TURNS), 'Timing the methods in turn'):
        for key, model in models.items():
            results = stream_video(model, images, with_mask=False)
            turns[key].append(list(results))
    return [_times(*key, results) for key, results in turns.items()]


def _times(
    method: str, setting: str, turns: Sequence[Sequence[FrameResult]]
) -> dict[str, Any]:
    """Sum the turns of a method up."""
    ms = [[1e3 * result.seconds for result in turn] for turn in turns]
    macs = MacCount.sum(result.cost for result in turns[0])
    return dict(
        method=method,
        setting=setting,
        gmac_per_frame=macs.spent / len(turns[0]) / 1e9,
        reduction=macs.reduction if macs.dense else None,
        ms_per_frame=median(mean(turn[1:]) for turn in ms),
        ms_with_first=median(mean(turn) for turn in ms),
        ms_first=median(turn[0] for turn in ms),
    )


def run_in_openvino(model: nn.Module, image: np.ndarray) -> str:
    """Let OpenVINO run the layers of a detector of one stage, in place.

    Preparing images and making boxes stay what they are.

    Args:
        model: The detector, dense.
        image: A picture of the size that all will have.

    Returns:
        Reason why it cannot; nothing if it does.
    """
    data = FramePipeline(model)(image)
    example = model.data_preprocessor(data, False)['inputs']
    network = RawOutputs(model, is_model=True)
    build = RIVALS['openvino']['openvino f32']
    with torch.no_grad():
        _, spec = tree_flatten(model(example, None, 'tensor'))
        try:
            run, layout = build(network, [example], torch.get_num_threads())
        except ImportError as error:
            return f'{error.name} is not installed'

    def forward(image: Tensor) -> Any:
        outputs = run(image.contiguous(memory_format=layout))
        return tree_unflatten([torch.from_numpy(o) for o in outputs], spec)

    model.extract_feat = lambda image: image
    model.bbox_head.forward = forward
    return ''


def print_times(times: Sequence[dict[str, Any]], console: Console) -> None:
    """Print what :func:`time_methods` found."""
    width, height = LARGE
    table = Table(
        title=f'Time of a frame of {width} x {height}',
        caption='ms/frame: mean over all but the first',
        box=box.SIMPLE_HEAD,
    )
    table.add_column('method', no_wrap=True)
    table.add_column('setting', overflow='fold')
    for head in (
        'fewer\nMACs',
        'ms/\nframe',
        'against\ndense',
        'ms of\nfirst',
    ):
        table.add_column(head, justify='right', no_wrap=True)
    for row in times:
        speed_up = times[0]['ms_per_frame'] / row['ms_per_frame']
        fewer = row['reduction']
        table.add_row(
            row['method'],
            row['setting'],
            '-' if fewer is None else f'{fewer:.2f}x',
            f'{row["ms_per_frame"]:.1f}',
            f'{speed_up:.2f}x',
            f'{row["ms_first"]:.0f}',
        )
    console.print(table)


def write_video(checkpoint: Path, work_dir: Path) -> None:
    """Annotate a test sequence with tools/stream_video.py; keep a frame."""
    folder = _sequence(Path(Config.fromfile(DENSE).data_root))[0].parent
    video = work_dir / 'overlay.mp4'
    _run('tools/stream_video.py', SKIP, checkpoint, folder, '--out', video)
    capture = cv2.VideoCapture(str(video))
    capture.set(cv2.CAP_PROP_POS_FRAMES, 20)
    found, frame = capture.read()
    capture.release()
    if found:
        cv2.imwrite(str(work_dir / 'overlay.png'), frame)


def save(rows: list[dict], work_dir: Path) -> None:
    """Write the rows as JSON, CSV and a plot."""
    write_json(work_dir / 'summary.json', rows)
    write_csv(work_dir / 'summary.csv', rows)
    plot_accuracy_vs_macs(rows, work_dir / 'ap_vs_gmac.png')


def _large_video() -> list[np.ndarray]:
    """Make the first test sequence as large as those of UA-DETRAC."""
    width, height = LARGE
    root = Path(Config.fromfile(DENSE).data_root)
    root = root.with_name(f'{root.name}_{width}x{height}')
    one = ('--train-sequences', 1, '--train-frames', 1, '--test-sequences', 1)
    _run('tools/make_toy_ua_detrac.py', root, *one, '--size', width, height)
    return [cv2.imread(str(path)) for path in _sequence(root)]


def _sequence(root: Path) -> list[Path]:
    """Images of the first test sequence."""
    folder = sorted((root / 'Insight-MVT_Annotation_Test').iterdir())[0]
    return sorted(folder.glob('*.jpg'))


def _run(script: str, *arguments: Any) -> None:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    with Children().start(command, cwd=ROOT) as child:
        child.wait()
    if child.returncode:
        raise UserError(f'{script} failed with code {child.returncode}')


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--work-dir', type=Path, default=ROOT / 'work_dirs/demo'
    )
    args = parser.parse_args(argv)
    start = time.time()
    console = Console()
    args.work_dir = args.work_dir.resolve()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    console.rule('Toy UA-DETRAC (about a minute)')
    _run('tools/make_toy_ua_detrac.py', Config.fromfile(DENSE).data_root)
    console.rule('Training a stock RetinaNet and testing it (11 minutes)')
    rows = methods()
    results, checkpoint = evaluate(rows, args.work_dir, console)
    times = time_methods(rows, checkpoint, _large_video())
    write_csv(args.work_dir / 'times.csv', times)
    write_video(checkpoint, args.work_dir)
    save(results, args.work_dir)
    console.rule(f'Done in {(time.time() - start) / 60:.1f} minutes')
    print_table(results, console)
    print_times(times, console)
    console.print(f'Written to {_short(args.work_dir)}')
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'demo'))
