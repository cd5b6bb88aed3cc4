"""Clips to calibrate a model on, and the config that keeps the result."""

import os
import pprint
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import nn

from mmskip.datasets.videos import group_frames
from mmskip.evaluation import norm_gates
from mmskip.skip_conv import LearnedNormGate
from mmskip.video import open_reader

from .errors import UserError, one_line
from .frame_stream import FramePipeline

Batch = dict[str, Any]
CONVERSION = 'mmskip.SkipConversion'
HOOK = 'mmskip.VideoHook'


def run_tensors(model: nn.Module, batch: Batch) -> Any:
    """Return a model's outputs for a batch, before they become predictions.

    Args:
        model: A model of mmdet, mmpose or mmaction2.
        batch: A batch for ``test_step``.
    """
    # Preprocessors change the lists that they are given.
    data = model.data_preprocessor({k: list(v) for k, v in batch.items()})
    return raw_outputs(model, data)


def raw_outputs(model: nn.Module, data: Mapping[str, Any]) -> Any:
    """Return a model's outputs for preprocessed data, logits of a recognizer.

    Args:
        model: A model of mmdet, mmpose or mmaction2.
        data: What its preprocessor returned.
    """
    # In tensor mode recognizers stop at features.
    stage = dict(stage='head') if hasattr(model, 'cls_head') else {}
    return model(**data, mode='tensor', **stage)


def clips_of_video(
    model: nn.Module, path: str, count: int, frames: int
) -> list[list[Batch]]:
    """Return the first clips of a video, one after the other.

    Args:
        model: With ``cfg``, see :func:`init_model`.
        path: A video file or a folder of images.
        count: Number of clips.
        frames: Frames of each; a clip that the video cuts short is left out.
    """
    clips = []
    with open_reader(path) as reader:
        images = iter(reader)
        prepare = FramePipeline(model)
        while len(clips) < count:
            clip = list(islice(images, frames))
            if len(clip) < frames:
                break
            clips.append([prepare(item.image, item.index) for item in clip])
    return clips


def clips_of_dataset(
    model: nn.Module, split: str, count: int, frames: int
) -> list[list[Batch]]:
    """Return the beginnings of videos of the config's own data.

    Samples go through the test pipeline, those of the training set, too.

    Args:
        model: With ``cfg``, see :func:`init_model`.
        split: ``train``, ``val`` or ``test``.
        count: Number of videos, evenly spaced; one clip of each.
        frames: Frames of each clip, at most.

    Raises:
        UserError: There is no such data set, or it cannot be read.
    """
    settings = _dataset_config(model.cfg, split)
    try:
        dataset = DATASETS.build(settings)
        videos = list(group_frames(dataset, _video_key(model.cfg)).values())
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f'cannot read the {split} set of the config: {one_line(error)}'
        ) from error
    videos = [video for video in videos if len(video) > 1]
    count = min(count, len(videos))
    chosen = [videos[i * len(videos) // count] for i in range(count)]
    return [
        [pseudo_collate([dataset[index]]) for index in video[:frames]]
        for video in chosen
    ]


def layer_groups(names: Sequence[str], count: int) -> list[list[str]]:
    """Split layers into runs of neighbours of about one size.

    Args:
        names: In the order of the model.
        count: Number of runs, at most.
    """
    count = min(count, len(names))
    bounds = [i * len(names) // count for i in range(count + 1)]
    return [list(names[a:b]) for a, b in pairwise(bounds)]


def rounded(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Round thresholds to four digits, as they are written."""
    return {name: float(f'{v:.4g}') for name, v in thresholds.items()}


def calibrated_conversions(
    model: nn.Module,
    conversions: Iterable[Mapping[str, Any]],
    thresholds: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Return a config's conversions with a threshold for each layer.

    Every norm-gated layer is named; those that share all other settings share
    an entry. Other conversions stay as and where they are.

    Args:
        model: Built from the config.
        conversions: Those of the config.
        thresholds: By layer.
    """
    kept: list[dict[str, Any]] = []
    place, shared = None, {}
    for conversion in conversions:
        if is_norm_gated(conversion):
            place = len(kept) if place is None else place
            shared.update(conversion)
        else:
            kept.append(_plain(conversion))
    for key in ('type', 'gate', 'memory', 'include', 'exclude', 'thresholds'):
        shared.pop(key, None)
    layers = dict(model.named_modules())
    entries: dict[tuple, dict[str, Any]] = {}
    for name, gate in norm_gates(model).items():
        settings = dict(
            type=f'mmskip.{type(gate).__name__}',
            block_size=gate.block_size,
            order=gate.order,
            relative=gate.relative,
        )
        if isinstance(gate, LearnedNormGate):
            settings['norm'] = gate.kind.removesuffix('_norm')
        memory = layers[name].memory
        entry = entries.setdefault(
            (*settings.values(), memory),
            dict(
                type=CONVERSION,
                gate=settings,
                memory=memory,
                **_plain(shared),
                thresholds={},
            ),
        )
        entry['thresholds'][name] = thresholds[name]
    new = list(entries.values())
    if kept or len(new) > 1:  # each may look at its own layers only
        for entry in new:
            entry['include'] = [re.escape(n) for n in entry['thresholds']]
    return kept[:place] + new + kept[place:]


def is_norm_gated(conversion: Mapping[str, Any]) -> bool:
    """Tell whether a conversion's config gives layers norm gates."""
    gate = conversion.get('gate') or {}
    return str(gate.get('type')).endswith('NormGate')


def write_calibrated(
    path: Path,
    config: str,
    conversions: Sequence[Mapping[str, Any]],
    tool: str = 'calibrate',
    arch: str | None = None,
) -> None:
    """Write a config that inherits another one and replaces conversions.

    Args:
        path: The config to write.
        config: The config to inherit.
        conversions: See :func:`calibrated_conversions`.
        tool: What chose the thresholds.
        arch: Type of the model in ``config``, if that is not converted.
    """
    base = os.path.relpath(Path(config).resolve(), path.parent.resolve())
    imports, kind = [], []
    if arch is not None:
        imports = ["custom_imports = dict(imports=['mmskip'])"]
        kind = ["    type='mmskip.ConvertedModel',", f'    arch={arch!r},']
    lines = [
        f'# Thresholds per layer, chosen by tools/{tool}.py.',
        f'_base_ = {base!r}',
        *imports,
        'model = dict(',
        *kind,
        '    conversions=[',
        *(_indented(entry) for entry in conversions),
        '    ]',
        ')',
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')


def to_device(clips: list[list[Batch]], device: torch.device) -> None:
    """Move the images of clips to a device, in place."""
    for clip in clips:
        for batch in clip:
            batch['inputs'] = [x.to(device) for x in batch['inputs']]


def _video_key(cfg: Config) -> str | Sequence[str]:
    """Return the key of a sample's video, as the config's VideoHook has it."""
    hooks = cfg.get('custom_hooks') or ()
    keys = [h.get('video_key') for h in hooks if h.get('type') == HOOK]
    return next(filter(None, keys), 'video_id')


def _dataset_config(cfg: Config, split: str) -> ConfigDict:
    """Return a split's data set without clips, with the test pipeline."""
    if cfg.get('default_scope') == 'mmaction':
        raise UserError(
            'expected a detector or a pose estimator, got a model of '
            'mmaction, which takes clips instead of frames'
        )
    found = {}
    for name in {split, 'test'}:
        dataset = (cfg.get(f'{name}_dataloader') or {}).get('dataset')
        while dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        if not dataset or not dataset.get('pipeline'):
            raise UserError(
                f'expected {name}_dataloader.dataset with a pipeline in the '
                'config, got none; name a video with --video instead'
            )
        found[name] = dataset
    return ConfigDict(
        found[split], pipeline=found['test'].pipeline, test_mode=True
    )


def _indented(entry: Mapping[str, Any]) -> str:
    """Return a conversion as lines of a config."""
    text = pprint.pformat(dict(entry), width=71, sort_dicts=False)
    return textwrap.indent(f'{text},', ' ' * 8)


def _plain(value: Any) -> Any:
    """Return a config's value of plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
