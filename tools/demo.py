"""The whole of mmskip on one toy: data, training, table, plot, video.

Makes a toy UA-DETRAC, trains a small stock mmdet detector on it, evaluates
it dense, with Skip-Conv and with the frame-skip baseline, and writes to
``work_dirs/demo``: summary.json, summary.csv, ap_vs_gmac.png, overlay.mp4 and
overlay.png. Run again, it reuses the data and the trained detector.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track

from mmskip.apis import import_host, init_model, stream_video
from mmskip.ops import active_backend
from mmskip.visualization import plot_accuracy_vs_macs, print_table

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / 'configs/skip_conv/detection'
DENSE = CONFIGS / 'retinanet_r18-w32_toy-ua-detrac.py'
SKIP = CONFIGS / 'skip-conv-output-norm_retinanet_r18-w32_toy-ua-detrac.py'
KEYFRAME = CONFIGS / 'keyframe_retinanet_r18-w32_toy-ua-detrac.py'
GATE = 'model.conversions.0.gate'
MEMORY = 'model.conversions.0.memory'


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


def train(work_dir: Path, console: Console) -> Path:
    """Train the dense detector with tools/train.py, unless that was done."""
    done = work_dir / 'trained.json'
    recipe = Config.fromfile(DENSE).pretty_text
    if done.exists() and json.loads(done.read_text())['recipe'] == recipe:
        checkpoint = Path(json.loads(done.read_text())['checkpoint'])
        if checkpoint.exists():
            console.print(f'Detector: reusing {_short(checkpoint)}')
            return checkpoint
    console.rule('Training a stock RetinaNet (about 6 minutes on 2 cores)')
    _run('tools/train.py', DENSE, '--work-dir', work_dir)
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    done.write_text(
        json.dumps(dict(recipe=recipe, checkpoint=str(checkpoint)))
    )
    return checkpoint


def evaluate(row: dict[str, Any], checkpoint: Path, work_dir: Path) -> dict:
    """Test one row with mmengine's Runner, as tools/test.py does."""
    cfg = Config.fromfile(row['config'])
    cfg.merge_from_dict(row['options'])
    cfg.load_from = str(checkpoint)
    cfg.work_dir = str(work_dir / 'tests')
    cfg.log_level = 'WARNING'
    # Runners of one process share loggers and hubs of the same name.
    cfg.experiment_name = f'{row["method"]}-{row.get("setting", "")}'
    import_host(cfg)
    # COCO's tables and the loader's remarks go to a file.
    with (
        (work_dir / 'tests.log').open('a') as log,
        contextlib.redirect_stdout(log),
        warnings.catch_warnings(action='ignore'),
    ):
        metrics = Runner.from_cfg(cfg).test()
    return dict(
        method=row['method'],
        setting=row.get('setting', ''),
        AP=metrics['coco/bbox_mAP'],
        AP50=metrics['coco/bbox_mAP_50'],
        gmac_per_frame=metrics['cost/gmac'],
        dense_gmac_per_frame=metrics['cost/dense_gmac'],
        reduction=metrics['cost/reduction'],
        ms_per_frame=None,
        backend=active_backend(),
    )


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
            str(rows[i]['config']), checkpoint, cfg_options=rows[i]['options']
        )
        for i in timed
    }
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
    (work_dir / 'summary.json').write_text(json.dumps(rows, indent=2))
    with (work_dir / 'summary.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    plot_accuracy_vs_macs(rows, work_dir / 'ap_vs_gmac.png')


def _sequence() -> list[Path]:
    """Images of the first test sequence."""
    root = Path(Config.fromfile(DENSE).data_root)
    folder = sorted((root / 'Insight-MVT_Annotation_Test').iterdir())[0]
    return sorted(folder.glob('*.jpg'))


def _run(script: str, *arguments: Any) -> None:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True)


def _short(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--work-dir', type=Path, default=ROOT / 'work_dirs/demo'
    )
    args = parser.parse_args()
    start = time.time()
    console = Console()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    console.rule('Toy UA-DETRAC (about a minute)')
    _run('tools/make_toy_ua_detrac.py', Config.fromfile(DENSE).data_root)
    checkpoint = train(args.work_dir, console)
    console.rule('Testing dense, Skip-Conv and frame skipping (3 minutes)')
    rows = methods()
    results = []
    for row in rows:
        results.append(evaluate(row, checkpoint, args.work_dir))
        last = results[-1]
        console.print(
            f'{len(results)}/{len(rows)} {last["method"]} {last["setting"]}: '
            f'AP {last["AP"]:.3f}, {last["reduction"]:.2f}x fewer MACs'
        )
    for index, milliseconds in time_methods(rows, checkpoint).items():
        results[index]['ms_per_frame'] = milliseconds
    write_video(checkpoint, args.work_dir)
    save(results, args.work_dir)
    console.rule(f'Done in {(time.time() - start) / 60:.1f} minutes')
    print_table(results, console)
    console.print(f'Written to {_short(args.work_dir)}')


if __name__ == '__main__':
    main()
