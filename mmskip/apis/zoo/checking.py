"""Check a model: in a stream with open gates it computes what it does."""

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmskip.apis.errors import one_line
from mmskip.apis.fast import make_fast
from mmskip.apis.zoo.configs import ZooModel, inner_model
from mmskip.apis.zoo.frames import Frames, candidate_frames
from mmskip.apis.zoo.probe import Probe, largest_error
from mmskip.apis.zoo.rows import Row
from mmskip.apis.zoo.weights import draw_weights, taking_statistics
from mmskip.convert import SkipConversion, convert, revert
from mmskip.layers import SkipConvMixin
from mmskip.runtime import StreamState, propagate_changes, stream

#: Largest difference, as a share of the largest value of a tensor.
TOLERANCE = 1e-4
#: What is done to a converted model before it runs, by the name of a mode.
MODES: dict[str, Callable[[nn.Module], Any]] = {
    'stream': lambda model: None,
    'plan': propagate_changes,
    'fast': make_fast,
}

Outputs = list[dict[str, list[Tensor]]]


class NotDenseError(Exception):
    """The model does not run as it is; the text says why."""


def check_model(entry: ZooModel, modes: Sequence[str]) -> list[Row]:
    """Build a model with random weights and run it on three frames.

    Args:
        entry: Which model.
        modes: Of :data:`MODES`.

    Returns:
        A row for each mode.
    """
    begin = time.monotonic()
    torch.manual_seed(0)
    blank = Row(entry.host, entry.name, '', '', configs=entry.configs)
    rows = [replace(blank, mode=mode) for mode in modes]
    try:
        rows = list(_check(entry, rows))
    except NotDenseError as error:
        text = str(error)
        rows = [
            replace(row, status='does not run densely', reason=text)
            for row in rows
        ]
    seconds = round(time.monotonic() - begin, 1)
    return [replace(row, seconds=seconds) for row in rows]


def _check(entry: ZooModel, rows: Iterable[Row]) -> Iterable[Row]:
    if entry.problem:
        raise NotDenseError(entry.problem)
    config = Config.fromfile(entry.path)
    model_config = inner_model(config.model)
    model = _build(entry.host, config, model_config)
    try:
        convert(model, open_gates())
    except ValueError as error:
        reason = one_line(error).split('; nothing was changed')[0]
        for row in rows:
            yield replace(row, status='refused', reason=reason)
        return
    revert(model)
    probe, frames, expected = _run_densely(
        model, candidate_frames(entry.host, config, model_config)
    )
    size = 'x'.join(map(str, frames.images[0].shape))
    for row in rows:
        yield _compare(replace(row, size=size), probe, frames, expected)


def open_gates() -> SkipConversion:
    """A conversion whose layers compute all that changed at all."""
    gate = dict(type='OutputNormGate', threshold=0.0)
    return SkipConversion(gate, memory='accumulated')


def _build(
    host: str, config: Config, model_config: dict[str, Any]
) -> nn.Module:
    """Build a model with random weights, in eval mode."""
    try:
        utils = import_module(f'{host}.utils')
        utils.register_all_modules(init_default_scope=False)
        init_default_scope(host)
        model_config = model_config.copy()
        if 'data_preprocessor' in config:
            known = config.data_preprocessor
            model_config.setdefault('data_preprocessor', known)
        model = MODELS.build(without_weights(model_config))
    except Exception as error:  # whatever a constructor does
        raise NotDenseError(describe(error)) from error
    model = revert_sync_batchnorm(model).eval()
    draw_weights(model)
    return model


def without_weights(config: Any) -> Any:
    """The same config without any pretrained weights."""
    if isinstance(config, dict):
        return type(config)(
            {
                # Some constructors insist on `pretrained`; others hand an
                # `init_cfg` of None to their blocks, which do not know it.
                key: None if key == 'pretrained' else without_weights(value)
                for key, value in config.items()
                if key != 'init_cfg'
            }
        )
    if isinstance(config, (list, tuple)):
        return type(config)(without_weights(value) for value in config)
    return config


def _run_densely(
    model: nn.Module, candidates: Iterable[Frames]
) -> tuple[Probe, Frames, Outputs]:
    """Find frames and a call that the model takes, and run it.

    Raises:
        NotDenseError: It takes none of them.
    """
    reason = ''
    sizes = list(candidates)
    for only_features in (False, True):
        probe = Probe(model, only_features).eval()
        for frames in sizes:
            try:
                # Statistics are there before the first output depends on
                # them.
                with taking_statistics(probe):
                    outputs = run(probe, frames)
            except Exception as error:  # whatever a forward does
                reason = reason or describe(error)
                continue
            _check_finite(outputs)
            return probe, frames, outputs
    raise NotDenseError(reason)


@torch.no_grad()
def run(probe: Probe, frames: Frames) -> Outputs:
    """Raw outputs of all frames."""
    return [probe.record(image, frames.samples) for image in frames.images]


def _check_finite(outputs: Outputs) -> None:
    for frame in outputs:
        for name, tensors in frame.items():
            if not all(tensor.isfinite().all() for tensor in tensors):
                raise NotDenseError(f'{name or "the model"} is not finite')


def _compare(row: Row, probe: Probe, frames: Frames, expected: Outputs) -> Row:
    """Run a model in a stream and tell how far it is from what it was."""
    report = convert(probe, open_gates())
    row = replace(row, layers=len(report.converted))
    try:
        MODES[row.mode](probe)
        state = StreamState()
        with stream(probe, state):
            actual = run(probe, frames)
        row = replace(row, planned=_num_planned(state))
        errors = map(largest_error, actual, expected)
        error, part = max(errors, key=lambda found: found[0])
    except Exception as problem:  # that is what is looked for
        return replace(row, status='fails', reason=describe(problem))
    finally:
        if row.mode != 'fast':
            revert(probe)
    row = replace(row, error=error)
    if error <= TOLERANCE:
        return replace(row, status='equal')
    noise = _own_noise(probe, frames)
    reason = f'{error:.1e} at {part or "its output"}'
    if noise <= TOLERANCE:
        return replace(row, status='differs', reason=reason)
    reason += f'; without a stream, by the last bits of pictures: {noise:.1e}'
    return replace(row, status='undetermined', reason=reason)


def _own_noise(probe: Probe, frames: Frames) -> float:
    """How far the last bits of the pictures move the dense model's outputs.

    A model that chooses among nearly equal scores, or whose random weights
    make it chaotic, is not determined to within the tolerance by float32.
    """
    moved = [
        torch.nextafter(x, torch.full_like(x, 1e9)) for x in frames.images
    ]
    expected = run(probe, frames)
    outputs = run(probe, frames._replace(images=moved))
    return max(
        largest_error(*pair)[0] for pair in zip(outputs, expected, strict=True)
    )


def _num_planned(state: StreamState) -> int:
    layers: set[SkipConvMixin] = set()
    for plan in state.plans.values():
        layers.update(conv.layer for conv in getattr(plan, 'convs', ()))
    return len(layers)


def describe(error: BaseException, length: int = 160) -> str:
    """An error in one line: where it was raised, and its text."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = f'{type(error).__name__}: {one_line(error)}'
    if len(text) > length:
        text = f'{text[: length - 3]}...'
    return f'{text} ({last.name})'
