"""The whole of mmskip on one toy: data, training, table, plot, video.

Makes a toy UA-DETRAC, trains a small stock mmdet detector on it, evaluates
it dense, with Skip-Conv and with the frame-skip baseline, and writes to
``work_dirs/demo``: summary.json, summary.csv, ap_vs_gmac.png, overlay.mp4 and
overlay.png. Run again, it reuses the data, the trained detector and
the results.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.config import Config
from rich.console import Console
from rich.progress import track

import mmskip
from mmskip.apis import UserError, init_model, stream_video
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.experiments import (
    Done,
    Job,
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
    rows: list[dict[str, Any]], checkpoint: Path, repeats: int = 3
) -> dict[int, float]:
    """Milliseconds per frame, from preparing a frame to its detections.

    The methods take turns over one test sequence, in one process; the
    median over the repeats of the mean over the sequence.

    Returns:
        Row number to milliseconds, for the rows marked ``timed``.
    """
    timed = [i for i, row in enumerate(rows) if row['timed']]
    models = {
        i: init_model(
            str(rows[i]['config']),
            checkpoint,
            cfg_options=rows[i]['options'],
        )
        for i in timed
    }
    for model in models.values():
        mmskip.accelerate(model)
    images = [cv2.imread(str(path)) for path in _sequence()]
    seconds: dict[int, list[float]] = {i: [] for i in timed}
    for _ in track(range(repeats), 'Timing the methods in turn'):
        for i in timed:
            results = stream_video(models[i], images, with_mask=False)
            spent = [result.seconds for result in results]
            seconds[i].append(sum(spent) / len(spent))
    return {i: 1e3 * sorted(s)[len(s) // 2] for i, s in seconds.items()}


def write_video(checkpoint: Path, work_dir: Path) -> None:
    """Annotate a test sequence with tools/stream_video.py; keep a frame."""
    folder = _sequence()[0].parent
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


def _sequence() -> list[Path]:
    """Images of the first test sequence."""
    root = Path(Config.fromfile(DENSE).data_root)
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
    for index, milliseconds in time_methods(rows, checkpoint).items():
        results[index]['ms_per_frame'] = milliseconds
    write_video(checkpoint, args.work_dir)
    save(results, args.work_dir)
    console.rule(f'Done in {(time.time() - start) / 60:.1f} minutes')
    print_table(results, console)
    console.print(f'Written to {_short(args.work_dir)}')
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'demo'))
