"""Time a part of a model on video frames: skipping, and what is run instead.

Contestants are the part with Skip-Convolutions, in a plan for each precision,
and its rivals, which compute all of every frame. They run in one process and
take turns: each gets a frame before any gets the next one.

The error of a contestant is how far its outputs are from those of the eager
model in float32: the largest difference, as a share of the largest value of
the output. It is taken on a frame that was computed as a whole, the first one
of a stream, because skipping leaves changes out on purpose. On the frames
after it each precision is compared with the same skipping in float32; the
larger one of both counts.

A rival is fair if it agrees as well: its error is no larger than that of the
skipping model, or than :data:`TOLERANCE`. Speed-ups are against the fastest
fair rival.
"""

import copy
import itertools
import statistics
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from io import BytesIO
from time import perf_counter, sleep
from typing import Any, NamedTuple

import cv2
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils import _pytree

from mmskip.apis import UserError, import_host, load_config, open_reader
from mmskip.apis.errors import one_line
from mmskip.apis.zoo_models import error_between
from mmskip.core import convert, count_macs, revert
from mmskip.native import library as native
from mmskip.plan import FEW_FRAMES, PRECISIONS, AccelerationReport, accelerate
from mmskip.skip_conv import (
    InputNormGate,
    SkipConversion,
    SkipConvMixin,
    SkipLinearMixin,
    stream,
)

#: Spatial size of the output of each layer.
Sizes = dict[SkipConvMixin, torch.Size]
PATTERNS = ('blob', 'blocks', 'pixels')
#: The gate of a model that has none, see configs/_base_/conversions.
GATE = dict(type='OutputNormGate', order=2, relative=True)
#: Frames that are not timed: the reference frame is the first of them.
WARM_UP = 3
#: Errors up to here are none.
TOLERANCE = 1e-3
# Threads of PyTorch spin before they sleep: OpenVINO, next in turn, would take
# a quarter longer (2 threads, 2 cores). More than 10 ms change nothing.
PAUSE_SECONDS = 0.01


class RawOutputs(nn.Module):
    """Calls a part of a model on an image, and lists the tensors it returns.

    Args:
        part: The part.
        is_model: Call it as a whole model, up to its raw outputs.
    """

    def __init__(self, part: nn.Module, is_model: bool = False) -> None:
        super().__init__()
        self.part = part
        # Data samples may have to be given, even if there are none.
        self._more = (None, 'tensor') if is_model else ()

    def arguments(self, image: Tensor) -> tuple:
        """Give what the part is called with, for an image."""
        return (image, *self._more)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the part.

        Args:
            image: (1, 3, H, W).
        """
        leaves = _pytree.tree_leaves(self.part(*self.arguments(image)))
        return tuple(leaf for leaf in leaves if torch.is_tensor(leaf))


def converted(model: nn.Module) -> list[SkipConvMixin]:
    """List the Skip-Convolutions of a model."""
    return [m for m in model.modules() if isinstance(m, SkipConvMixin)]


def output_sizes(model: nn.Module, image: Tensor) -> Sizes:
    """Return the spatial size of the output of layers that can be forced.

    Left out are layers whose outputs are no images, or have several sizes,
    as those of a head that is shared by the levels of a pyramid; and linear
    layers: tokens lie in another order in each, so what changes in a frame
    is left to their gates.
    """
    found = defaultdict(set)

    def note(layer: SkipConvMixin, _: tuple, output: Tensor) -> None:
        found[layer].add(output.shape[2:])

    handles = [
        m.register_forward_hook(note)
        for m in converted(model)
        if not isinstance(m, SkipLinearMixin)
    ]
    model(image)
    for handle in handles:
        handle.remove()
    return {
        layer: size
        for layer, (size, *others) in found.items()
        if len(size) == 2 and not others
    }


def region(pattern: str, share: float, size: torch.Size) -> Tensor:
    """Return a map (1, 1, H, W) of which a share is True."""
    height, width = size
    if pattern == 'blob':
        h, w = (round(s * share**0.5) for s in (height, width))
        mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
        top, left = (height - h) // 2, (width - w) // 2
        mask[:, :, top : top + h, left : left + w] = True
        return mask
    side = 8 if pattern == 'blocks' else 1
    rows, columns = -(-height // side), -(-width // side)
    order = torch.randperm(rows * columns)
    mask = (order < round(share * rows * columns)).view(1, 1, rows, columns)
    mask = mask.repeat_interleave(side, -2).repeat_interleave(side, -1)
    return mask[..., :height, :width].contiguous()


def force(sizes: Sizes, pattern: str, share: float) -> None:
    """Make a share of every layer fire; 0 means: where something changes.

    Raises:
        UserError: The C++ library is missing, without which masks cannot be
            forced.
    """
    if native.MISSING:
        raise UserError(f'masks cannot be forced: {native.MISSING}')
    for layer, size in sizes.items():
        mask = region(pattern, share, size)[0, 0]
        layer.gate.threshold = -1.0 if mask.any() else 0.0
        layer.force_mask(mask if mask.any() else None)


def forced_frames(
    image: Tensor, pattern: str, share: float, number: int
) -> list[Tensor]:
    """Return an image, and frames with a share of their pixels new.

    Args:
        image: (1, 3, H, W).
        pattern: How the new pixels lie, see :data:`PATTERNS`.
        share: How many there are, from 0 to 1.
        number: Number of frames, the first one included.
    """
    place = region(pattern, share, image.shape[2:])
    return [image] + [
        torch.where(place, torch.randn_like(image), image)
        for _ in range(number - 1)
    ]


def video_frames(
    path: str, size: tuple[int, int], preprocessor: nn.Module, number: int
) -> list[Tensor]:
    """Return the first frames of a video, as a model sees them.

    Args:
        path: A video file, or a folder of images.
        size: (W, H) to resize to.
        preprocessor: The model's data preprocessor.
        number: Number of frames.

    Raises:
        UserError: The video has fewer frames.
    """
    frames = []
    with open_reader(path) as reader:
        for frame in itertools.islice(reader, number):
            image = cv2.resize(frame.image, size)
            data = dict(
                inputs=[torch.from_numpy(image).permute(2, 0, 1)],
                data_samples=[],  # some go through them
            )
            inputs = preprocessor(data, False)['inputs']
            # A recogniser's has one dimension more.
            inputs = inputs.reshape(1, *inputs.shape[-3:])
            frames.append(inputs.contiguous(memory_format=torch.channels_last))
    if len(frames) < number:
        raise UserError(
            f'--video {path}: expected at least {number} frames, got '
            f'{len(frames)}; take a longer video or fewer --frames'
        )
    return frames


class Skip(NamedTuple):
    """A part with Skip-Convolutions, in the form that runs fastest.

    Attributes:
        model: The part.
        sizes: Layers whose masks can be forced.
        report: What was folded, and what runs in plans.
    """

    model: RawOutputs
    sizes: Sizes
    report: AccelerationReport


class Rival(NamedTuple):
    """A way to compute all of every frame.

    Attributes:
        run: Takes an image, returns its outputs: tensors or arrays.
        layout: How the image has to lie in memory.
    """

    run: Callable[[Tensor], Sequence[Any]]
    layout: torch.memory_format = torch.channels_last


class Contest(NamedTuple):
    """All that are compared, and the model that errors are measured from.

    Attributes:
        dense: The part as it is, eager, in float32.
        skips: By precision; float32 is among them, whether timed or not.
        rivals: By name.
        precisions: Those of the skips that are timed.
    """

    dense: RawOutputs
    skips: dict[str, Skip]
    rivals: dict[str, Rival]
    precisions: Sequence[str]


def build_parts(
    config: str, options: dict | None, name: str, threshold: float | None
) -> tuple[RawOutputs, RawOutputs, nn.Module]:
    """Build a part of a model, dense and with Skip-Convolutions.

    Args:
        config: Path of a config.
        options: Changes to it.
        name: Name of the part; '' is the whole model.
        threshold: Threshold, if the config converts no layer. None asks
            for gates that can be forced.

    Returns:
        The dense part, the other one, and the model's data preprocessor.

    Raises:
        UserError: The model has no such part, or takes clips as a whole.
    """
    cfg = load_config(config, options)
    host = import_host(cfg)
    if not name and host == 'mmaction':
        raise UserError(
            "--part '': expected a model that takes images, got one of "
            'mmaction, which takes clips; name a part of it, as backbone'
        )
    init_default_scope(host)
    model = MODELS.build(cfg.model)
    # Some backbones return nothing from eval().
    model.eval()
    try:
        skip = model.get_submodule(name)
    except AttributeError as error:
        raise UserError(f'--part {name}: {error}') from None
    dense = copy.deepcopy(skip)
    linear = any(isinstance(m, SkipLinearMixin) for m in converted(skip))
    if converted(skip):
        revert(dense)
    if threshold is None or not converted(skip):
        skip = copy.deepcopy(dense)
        # Those of linear layers are not forced.
        gate = dict(GATE, threshold=threshold or (0.2 if linear else 0.0))
        convert(
            skip,
            SkipConversion(gate, 'accumulated', roi_heads=True, linear=linear),
        )
    if threshold is None:
        for layer in converted(skip):
            if not isinstance(layer, SkipLinearMixin):
                layer.gate = InputNormGate(0.0)
    accelerate(dense)
    parts = [RawOutputs(part, is_model=not name) for part in (dense, skip)]
    return *parts, model.data_preprocessor


def build_skips(
    skip: RawOutputs, precisions: Sequence[str], examples: Sequence[Tensor]
) -> dict[str, Skip]:
    """Accelerate copies of a part, in float32 and other precisions.

    Args:
        skip: A converted part.
        precisions: Keys of :data:`mmskip.plan.PRECISIONS`.
        examples: Inputs (1, 3, H, W), for sizes and for the ranges of
            integers.

    Raises:
        UserError: A precision needs a plan, and there can be none; or the
            part does not run on an image alone.
    """
    skips, image = {}, examples[0]
    for precision in PRECISIONS:
        if precision not in ('float32', *precisions):
            continue
        model, calibration = copy.deepcopy(skip), None
        if precision == 'int8':
            calibration = map(skip.arguments, examples[:FEW_FRAMES])
        try:
            report = accelerate(model.part, precision, calibration)
        except ValueError as error:
            raise UserError(f'--precision {precision}: {error}') from error
        try:
            with torch.inference_mode():
                sizes = output_sizes(model, image)
        except (AttributeError, RuntimeError, TypeError) as error:
            raise UserError(
                f'{type(skip.part).__name__} does not run on an image of '
                f'shape {tuple(image.shape)} alone: {one_line(error)}; '
                'choose another --part or --size'
            ) from error
        skips[precision] = Skip(model, sizes, report)
    return skips


def build_rivals(
    names: Sequence[str],
    dense: RawOutputs,
    examples: Sequence[Tensor],
    threads: int,
) -> tuple[dict[str, Rival], dict[str, str]]:
    """Build what computes all of every frame.

    Args:
        names: Keys of :data:`RIVALS`.
        dense: The part, eager.
        examples: Inputs (1, 3, H, W), for tracing and for the ranges of
            integers.
        threads: CPU threads.

    Returns:
        The rivals, and the reasons why others are missing, by name.
    """
    rivals, missing = {}, {}
    for name, build in (x for kind in names for x in RIVALS[kind].items()):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter('ignore')  # of tracers, about branches
                rival = build(dense, examples, threads)
                with torch.inference_mode():
                    rival.run(
                        examples[0].contiguous(memory_format=rival.layout)
                    )
        except ImportError as error:
            missing[name] = f'{error.name} is not installed'
        # Exporters and compilers raise whatever they like.
        except Exception as error:
            missing[name] = textwrap.shorten(one_line(error), 200)
        else:
            rivals[name] = rival
    return rivals, missing


def _build_eager(dense: RawOutputs, *_: Any) -> Rival:
    return Rival(dense)


def _build_compiled(dense: RawOutputs, *_: Any) -> Rival:
    # Its first frame takes minutes.
    options = dict(freezing=True)
    return Rival(torch.compile(copy.deepcopy(dense), options=options))


def _build_openvino(
    dense: RawOutputs,
    examples: Sequence[Tensor],
    threads: int,
    precision: str,
) -> Rival:
    openvino = import_module('openvino')
    nncf = import_module('nncf') if precision == 'int8' else None
    cpu = torch.cpu
    is_fast = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    if precision == 'bf16' and not is_fast:
        raise UserError('this CPU has no instructions for bfloat16')
    images = [image.contiguous() for image in examples]
    model = openvino.convert_model(_contiguous(dense), example_input=images[0])
    model.reshape(list(images[0].shape))
    if nncf is not None:
        data = nncf.Dataset([image.numpy() for image in images])
        model = nncf.quantize(model, data, subset_size=len(images))
    options = dict(
        INFERENCE_PRECISION_HINT='bf16' if precision == 'bf16' else 'f32',
        PERFORMANCE_HINT='LATENCY',
        NUM_STREAMS=1,
        INFERENCE_NUM_THREADS=threads,
    )
    compiled = openvino.Core().compile_model(model, 'CPU', options)
    request = compiled.create_infer_request()

    def run(image: Tensor) -> list:
        found = request.infer(
            [image.numpy()], share_inputs=True, share_outputs=True
        )
        return [found[output] for output in compiled.outputs]

    return Rival(run, torch.contiguous_format)


def _build_onnxruntime(
    dense: RawOutputs, examples: Sequence[Tensor], threads: int
) -> Rival:
    onnxruntime = import_module('onnxruntime')
    file = BytesIO()
    # The exporter that needs no other package; sizes are fixed.
    torch.onnx.export(
        _contiguous(dense), (examples[0].contiguous(),), file, dynamo=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=['CPUExecutionProvider']
    )
    name = session.get_inputs()[0].name

    def run(image: Tensor) -> list:
        return session.run(None, {name: image.numpy()})

    return Rival(run, torch.contiguous_format)


def _contiguous(dense: RawOutputs) -> nn.Module:
    return copy.deepcopy(dense).to(memory_format=torch.contiguous_format)


#: Builders of rivals; of one kind there may be several.
RIVALS: dict[str, dict[str, Callable[..., Rival]]] = {
    'eager': {'eager': _build_eager},
    'compile': {'compile': _build_compiled},
    'openvino': {
        f'openvino {precision}': partial(_build_openvino, precision=precision)
        for precision in ('f32', 'bf16', 'int8')
    },
    'onnxruntime': {'onnxruntime': _build_onnxruntime},
}


def measure(
    contest: Contest,
    frames: Sequence[Tensor],
    pattern: str,
    share: float | None,
    counted: int,
    load: bool = False,
) -> list[dict]:
    """Time all contestants on the same frames, in turns.

    Args:
        contest: Gates are forced already, or real ones.
        frames: Inputs (1, 3, H, W); the first :data:`WARM_UP` are not timed.
        pattern: Name of the row.
        share: Share of outputs that are forced to fire; None takes that of the
            MACs that are executed.
        counted: Frames after the first one whose MACs are counted.
        load: A mark of the rows: something else keeps the cores busy.

    Returns:
        A row for each precision.
    """
    exact = contest.skips['float32'].model
    reduction = _mac_reduction(exact, frames[: counted + 1])
    if share is None:
        share = 1 / reduction if reduction else 0.0
    errors = find_errors(contest, frames[:WARM_UP])
    ms, sizes = _time_in_turns(contest, frames)
    rivals = {
        name: dict(ms=ms[name], error=errors[name]) for name in contest.rivals
    }
    return [
        dict(
            pattern=pattern,
            active=share,
            mac_reduction=reduction,
            precision=precision,
            skip_ms=ms[precision],
            error=errors[precision],
            mib_per_stream=sizes[precision] / 2**20,
            rivals=rivals,
            **compare(ms[precision], errors[precision], rivals),
            load=load,
        )
        for precision in contest.precisions
    ]


def find_errors(
    contest: Contest, frames: Sequence[Tensor]
) -> dict[str, float]:
    """Return the error of each contestant, see the text of the module.

    Args:
        contest: All skips and rivals.
        frames: The last one is compared; a plan needs one before it.
    """
    last = frames[-1]
    true = contest.dense(last)
    errors = {
        name: error_between(_run(rival, last), true)
        for name, rival in contest.rivals.items()
    }
    skips = {name: Rival(s.model) for name, s in contest.skips.items()}
    with ExitStack() as stack:
        states = {
            name: stack.enter_context(stream(skip.run))
            for name, skip in skips.items()
        }
        for frame in frames:
            outputs = {name: _run(s, frame) for name, s in skips.items()}
        for name, skip in skips.items():
            states[name].reset()
            errors[name] = max(
                error_between(_run(skip, last), true),
                error_between(outputs[name], outputs['float32']),
            )
    return errors


def _run(contestant: Rival, frame: Tensor) -> list[Tensor]:
    image = frame.contiguous(memory_format=contestant.layout)
    # Some write the next outputs where these are.
    return [torch.asarray(x, copy=True) for x in contestant.run(image)]


def _time_in_turns(
    contest: Contest, frames: Sequence[Tensor]
) -> tuple[dict[str, float], dict[str, int]]:
    """Return the median ms of each contestant, and bytes of each stream."""
    skips = {name: contest.skips[name].model for name in contest.precisions}
    turns = {name: Rival(skip) for name, skip in skips.items()}
    turns |= contest.rivals
    seconds = defaultdict(list)
    with ExitStack() as stack:
        states = {
            name: stack.enter_context(stream(skip))
            for name, skip in skips.items()
        }
        for frame in frames:
            for name, (run, layout) in turns.items():
                image = frame.contiguous(memory_format=layout)
                sleep(PAUSE_SECONDS)
                start = perf_counter()
                run(image)
                seconds[name].append(perf_counter() - start)
        sizes = {name: state.nbytes for name, state in states.items()}
    ms = {k: 1e3 * statistics.median(v[WARM_UP:]) for k, v in seconds.items()}
    return ms, sizes


def compare(
    skip_ms: float, error: float, rivals: dict[str, dict]
) -> dict[str, Any]:
    """Compare skipping with the fastest rival that agrees as well.

    Args:
        skip_ms: Time of a skip frame.
        error: Its error.
        rivals: ``ms`` and ``error`` of each.

    Returns:
        ``speed_up`` and ``fastest_rival``, both None without a fair rival.
    """
    fair = {
        rival['ms']: name
        for name, rival in rivals.items()
        if is_fair(rival, error)
    }
    if not fair:
        return dict(speed_up=None, fastest_rival=None)
    fastest = min(fair)
    return dict(speed_up=fastest / skip_ms, fastest_rival=fair[fastest])


def is_fair(rival: dict, error: float) -> bool:
    """Tell if a rival agrees as well as skipping with this error."""
    return rival['error'] <= max(error, TOLERANCE)


def _mac_reduction(skip: nn.Module, frames: Sequence[Tensor]) -> float | None:
    """Return the MAC reduction on later frames; None without any MACs."""
    with stream(skip):
        skip(frames[0])
        with count_macs(skip) as macs:
            for frame in frames[1:]:
                skip(frame)
    count = macs.total()
    return count.dense / count.executed if count.executed else None
