"""Routing of a model with dynamic convolutions, by class and clip.

The figures of chapter 4 and appendix B of the thesis on VA-RED^2. Writes to
--out:

- shares.csv and .png: computed features per layer and class (Fig. B-4);
- clips.csv: cost of every clip;
- costs.csv and .png: its distribution (Fig. B-6);
- extremes.csv and .png: cheapest and dearest clip per class (Fig. 4-2), with
  MACs of the dynamic layers in percent of the plain ones.

Example::

    python tools/analysis/routing.py CONFIG CHECKPOINT --out work_dirs/routing

--groups names a JSON file with a group per video, such as its speed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from torch import nn

from mmskip import record_routing
from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.evaluation.compute_cost import group_of, read_groups, video_name
from mmskip.evaluation.gate_statistics import (
    ClipRouting,
    ExtremeClips,
    cost_distribution,
    join_routing,
    read_routing,
    share_by_class,
)
from mmskip.evaluation.redundancy import dynamic_layers
from mmskip.experiments import write_csv
from mmskip.experiments.arguments import (
    add_recognizer_arguments,
    class_names,
    clip_frames,
    load_test_set,
    make_out,
    open_recognizer,
    predict,
)
from mmskip.visualization.frame_usage import stack
from mmskip.visualization.routing import (
    draw_clip,
    plot_cost_distribution,
    plot_shares,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    add_recognizer_arguments(parser, 'routing')
    parser.add_argument('--groups', type=Path, help='JSON: group by video')
    parser.add_argument(
        '--classes', type=int, default=8, help='of extremes.png (%(default)s)'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the test set and write the files."""
    args = parse_args(argv)
    out = make_out(args)
    model = open_recognizer(args)
    try:
        groups = read_groups(args.groups) if args.groups else None
        routing, clips, extremes = watch(model, args.videos)
        if groups is not None:
            for clip in clips:
                clip['group'] = group_of(clip['video'], groups)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    names = class_names(model, list(extremes.by_label))
    write_shares(out, routing, clips, names)
    write_costs(out, clips)
    write_extremes(out, extremes, names, args.classes)
    return EXIT_OK


def watch(
    model: nn.Module, videos: int | None
) -> tuple[ClipRouting, list[dict[str, Any]], ExtremeClips]:
    """Run the test set and collect the routing of every clip.

    Raises:
        UserError: There is no video.
        ValueError: The model has no dynamic convolution.
    """
    dynamic_layers(model)
    batches, clips, extremes = [], [], ExtremeClips()
    for batch in load_test_set(model, videos):
        with record_routing(model) as record:
            samples = predict(model, batch)
        batches.append(read_routing(record))
        views = len(batches[-1].macs) // len(samples)
        costs = zip(
            batches[-1].macs.tolist(), batches[-1].ratio.tolist(), strict=True
        )
        for index, (macs, ratio) in enumerate(costs):
            video, view = divmod(index, views)
            sample = samples[video]
            clip = dict(
                video=video_name(sample.to_dict()),
                view=view,
                label=int(sample.gt_label),
                macs=macs,
                ratio=ratio,
            )
            clips.append(clip)
            frames = clip_frames(batch['inputs'][video], view)
            extremes.add(dict(clip, frames=frames))
    if not batches:
        raise UserError('expected at least one video in the test set')
    return join_routing(batches), clips, extremes


def write_shares(
    out: Path,
    routing: ClipRouting,
    clips: Sequence[dict[str, Any]],
    names: dict[int, str],
) -> None:
    """Write computed features per layer and class."""
    rows = [
        dict(name=names[row['label']], **row)
        for row in share_by_class(routing, [clip['label'] for clip in clips])
    ]
    write_csv(out / 'shares.csv', rows)
    print(plot_shares(rows, out / 'shares.png'))


def write_costs(out: Path, clips: Sequence[dict[str, Any]]) -> None:
    """Write the cost of clips and its distribution, by group if there are."""
    write_csv(out / 'clips.csv', clips)
    members = {'all': [clip['macs'] for clip in clips]}
    for group in sorted({clip.get('group', '') for clip in clips} - {''}):
        members[group] = [c['macs'] for c in clips if c['group'] == group]
    limits = min(members['all']), max(members['all'])
    rows = {
        name: cost_distribution(macs, limits) for name, macs in members.items()
    }
    write_csv(
        out / 'costs.csv',
        [dict(group=name, **row) for name in rows for row in rows[name]],
    )
    print(plot_cost_distribution(rows, out / 'costs.png'))


def write_extremes(
    out: Path, extremes: ExtremeClips, names: dict[int, str], classes: int
) -> None:
    """Write the cheapest and the dearest clip of each class."""
    rows, strips = [], []
    for label in sorted(extremes.by_label):
        pair = zip(('least', 'most'), extremes.by_label[label], strict=True)
        for kind, clip in pair:
            row = {key: clip[key] for key in clip if key != 'frames'}
            rows.append(dict(name=names[label], extreme=kind, **row))
            if len(strips) < 2 * classes:
                text = f'{names[label]}, {kind}: {100 * clip["ratio"]:.1f} %'
                strips.append(draw_clip(clip['frames'], text))
    write_csv(out / 'extremes.csv', rows)
    path = out / 'extremes.png'
    if not cv2.imwrite(str(path), stack(strips)):
        raise UserError(f'{path}: expected a path that can be written')
    print(path)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'routing'))
