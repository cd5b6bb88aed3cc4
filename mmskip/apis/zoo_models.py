"""The distinct models of a host's configs, with weights and frames."""

import json
import math
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree

from .errors import UserError, one_line

#: Options that change neither layers nor what they compute in inference.
_IRRELEVANT = {
    'data_preprocessor',
    'frozen_stages',
    'init_cfg',
    'norm_eval',
    'pretrained',
    'test_cfg',
    'train_cfg',
    'with_cp',
}
#: Where wrappers (trackers, distillers) have the model that they stand on.
_WRAPPED = ('detector', 'student_cfg')
#: Of what moves the positions at which images of noise are read.
_SMOOTH = 0.1
NUM_FRAMES = 3
#: Sides of square pictures, tried from the smallest.
_SIDES = dict(mmdet=(96, 128, 256, 320, 512), mmaction=(64, 112, 224))
_SAMPLES = dict(
    mmdet=('mmdet.structures', 'DetDataSample'),
    mmpose=('mmpose.structures', 'PoseDataSample'),
    mmaction=('mmaction.structures', 'ActionDataSample'),
)
#: Width and height of pictures where a config does not tell.
_COCO = (1333, 800)
#: Joints by the layout of a skeleton.
_JOINTS = {'coco': 17, 'openpose': 18, 'nturgb+d': 25}
#: Boxes in fractions of the picture, some of each size.
_BOXES = (
    (0.0, 0.0, 1.0, 1.0),
    (0.1, 0.2, 0.5, 0.6),
    (0.4, 0.1, 0.9, 0.5),
    (0.3, 0.3, 0.55, 0.7),
    (0.6, 0.6, 0.8, 0.9),
    (0.05, 0.7, 0.2, 0.95),
)
#: Errors from which a part may be where others come from.
_NOTABLE = 1e-4


class NotDenseError(Exception):
    """The model does not run as it is; the text says why."""


@dataclass(frozen=True)
class ZooModel:
    """A model, and the configs that differ in nothing that matters here.

    Attributes:
        host: Its package.
        configs: Their paths below the folder of configs, at least one.
        problem: Why the config cannot be read, if it cannot.
    """

    host: str
    configs: tuple[str, ...]
    problem: str = ''

    @property
    def name(self) -> str:
        """The first config, without its ending."""
        return self.configs[0].removesuffix('.py')

    @property
    def path(self) -> Path:
        """The file of the first config."""
        return configs_of(self.host) / self.configs[0]


def configs_of(host: str) -> Path:
    """Return the folder of configs in the installed wheel of a host.

    Raises:
        UserError: The host is not installed, or its wheel has none.
    """
    spec = find_spec(host)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f'{host} is not installed')
    folder = Path(spec.submodule_search_locations[0]) / '.mim' / 'configs'
    if not folder.is_dir():
        raise UserError(
            f'expected the configs of {host} in {folder}, which is no '
            'folder; install the host from its wheel'
        )
    return folder


def config_paths(host: str, only: str = '') -> list[Path]:
    """Return all configs of a host but for bases.

    Args:
        host: Package such as ``mmdet``.
        only: Regular expression that their paths have to contain.

    Raises:
        UserError: There is none.
    """
    folder = configs_of(host)
    paths = [
        path
        for path in sorted(folder.rglob('*.py'))
        if '_base_' not in path.parts
        and re.search(only, path.relative_to(folder).as_posix())
    ]
    if not paths:
        raise UserError(f'no config below {folder} contains {only!r}')
    return paths


def group_models(host: str, paths: Iterable[Path]) -> list[ZooModel]:
    """Return the distinct models of configs, one of each folder first.

    A config that cannot be read is a model with a problem; one without a
    model (a schedule, a data set) is none.

    Args:
        host: Whose configs they are.
        paths: Names of the configs, see :func:`config_paths`.
    """
    folder = configs_of(host)
    configs_by_key: dict[str, list[str]] = {}
    unread = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            config = Config.fromfile(path)
            key = model_key(inner_model(config.get('model', {})))
        except Exception as error:  # a config is Python: it may raise any
            why = f'{type(error).__name__}: {one_line(error)}'
            unread.append(ZooModel(host, (name,), why))
            continue
        if 'model' in config:
            configs_by_key.setdefault(key, []).append(name)
    found = [ZooModel(host, tuple(c)) for c in configs_by_key.values()]
    return _by_turns(sorted(found + unread, key=lambda model: model.name))


def inner_model(model: dict[str, Any]) -> dict[str, Any]:
    """Return the model's config that runs on a frame, of a tracker too."""
    for key in _WRAPPED:
        inner = model.get(key)
        if isinstance(inner, str):
            return inner_model(Config.fromfile(inner).model)
        if inner is not None:
            return inner_model(inner)
    return model


def model_key(model: dict[str, Any]) -> str:
    """Return a key that models share which differ in nothing that matters.

    Weights, losses (but for what decides the number of outputs), training,
    post-processing and the number of classes do not.

    Args:
        model: Config of a model.
    """
    return json.dumps(_relevant(model), sort_keys=True, default=repr)


def without_weights(config: Any) -> Any:
    """Return the same config without any pretrained weights."""
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


def build_model(
    host: str, config: Config, model_config: dict[str, Any]
) -> nn.Module:
    """Build a model without pretrained weights, in eval mode.

    Args:
        host: Its package.
        config: Which may have a preprocessor beside the model.
        model_config: Config of the model itself.

    Raises:
        NotDenseError: It cannot be built.
    """
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
    return revert_sync_batchnorm(model).eval()


def describe(error: BaseException, length: int = 160) -> str:
    """Describe an error in one line: where it was raised, and its text."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = f'{type(error).__name__}: {one_line(error)}'
    if len(text) > length:
        text = f'{text[: length - 3]}...'
    return f'{text} ({last.name})'


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int = 0) -> None:
    """Give all parameters other values than zero, in place.

    Constructors leave offsets, gates and the scales of residual branches at
    zero, and so hide what is behind them.

    Args:
        model: Any model.
        seed: Seed of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        gain = math.sqrt(2) if isinstance(module, _ConvNd) else 1.0
        if 'offset' in name:
            gain *= _SMOOTH
        for key, value in module._parameters.items():
            if value is not None and value.is_floating_point():
                _draw(key, value, gain, generator)


@contextmanager
def taking_statistics(model: nn.Module) -> Iterator[None]:
    """Let each batch norm scale what it gets first to values around one.

    Activations then neither vanish nor explode, whatever the depth. Means
    are not taken away and silent channels not made loud: rounding errors
    would grow from layer to layer.

    Args:
        model: In eval mode; its next forward gives the statistics.
    """
    met: set[nn.Module] = set()

    def take(norm: nn.Module, args: tuple) -> None:
        if norm not in met and norm.running_mean is not None:
            met.add(norm)
            square = args[0].pow(2).mean() + 1e-6
            norm.running_var.uniform_(0.5, 1.5).mul_(square)
            norm.running_mean.normal_(0, 0.1).mul_(square.sqrt())

    handles = [
        module.register_forward_pre_hook(take)
        for module in model.modules()
        if isinstance(module, _NormBase)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Frames(NamedTuple):
    """A short video, and what a host wants to know of its frames.

    Attributes:
        images: Tensors of one shape, as the model gets them.
        samples: Data samples of a frame; the same for all.
    """

    images: list[Tensor]
    samples: list[BaseDataElement]


def candidate_frames(
    host: str, config: Config, model: dict[str, Any]
) -> Iterator[Frames]:
    """Yield frames that the model might take, from the cheapest.

    Args:
        host: Its package.
        config: Which may say how large its inputs are.
        model: Config of the model itself.
    """
    for shape in dict.fromkeys(_SHAPES[host](config, model)):
        generator = torch.Generator().manual_seed(0)
        yield Frames(make_video(shape, generator), [_sample(host, shape[-2:])])


def full_frames(
    host: str, config: Config, model: dict[str, Any]
) -> Iterator[Frames]:
    """Yield frames without content, from the size that the config tells.

    Args:
        host: Its package.
        config: File that the model's config is from.
        model: Config of the model itself.
    """
    shapes = list(_SHAPES[host](config, model))
    size = _FULL_SIZES[host](config) if host in _FULL_SIZES else None
    if size is not None:
        shapes.append((1, _channels(model), *size))
    for shape in dict.fromkeys(reversed(shapes)):
        image = torch.empty(shape, device='meta')
        yield Frames([image], [_sample(host, shape[-2:])])


def make_video(
    shape: Sequence[int], generator: torch.Generator
) -> list[Tensor]:
    """Return noise in which one patch moves and the rest stays.

    Args:
        shape: Shape of each frame, (..., H, W).
        generator: Source of the noise.
    """
    still = torch.randn(*shape, generator=generator)
    height, width = (max(size // 4, 1) for size in shape[-2:])
    patch = torch.randn(*shape[:-2], height, width, generator=generator)
    video = []
    for index in range(NUM_FRAMES):
        frame = still.clone()
        top, left = index * height // 2, index * width // 2
        frame[..., top : top + height, left : left + width] = patch
        video.append(frame)
    return video


def fixed_boxes(size: Sequence[int]) -> InstanceData:
    """Return proposals that do not depend on a score.

    Args:
        size: Size of the picture, (H, W).
    """
    height, width = size
    scale = torch.tensor([width, height, width, height])
    return InstanceData(
        bboxes=torch.tensor(_BOXES) * scale,
        scores=torch.ones(len(_BOXES)),
        labels=torch.zeros(len(_BOXES), dtype=torch.long),
    )


def _images(config: Config, model: dict[str, Any]) -> Iterator[tuple]:
    channels = _channels(model)
    for side in _SIDES['mmdet']:
        yield 1, channels, side, side


def _poses(config: Config, model: dict[str, Any]) -> Iterator[tuple]:
    channels = _channels(model)
    yield 1, channels, 96, 96
    yield 1, channels, 128, 128
    size = _crop_size(config)
    if size is not None:
        yield 1, channels, *size
    yield 1, channels, 256, 256


def _clips(config: Config, model: dict[str, Any]) -> Iterator[tuple]:
    channels, sampling = _channels(model), _sampling(config)
    segments = model.get('backbone', {}).get('num_segments')
    length = sampling.get('clip_len', 8)
    segments = segments or max(sampling.get('num_clips', 1), 1)
    kind = model['type']
    if kind == 'RecognizerGCN':
        layout = model['backbone']['graph_cfg']['layout']
        people = model['backbone'].get('num_person', 2)
        yield 1, 1, people, 32, _JOINTS[layout], channels
        return
    if kind == 'RecognizerAudio':
        yield 1, 1, 1, 128, 80
        return
    for side in _SIDES['mmaction']:
        if kind == 'FastRCNN':
            yield 1, channels, length, side, side
        elif kind == 'Recognizer2D':
            yield 1, segments, channels, side, side
        else:
            yield 1, 1, channels, length, side, side


_SHAPES = dict(mmdet=_images, mmpose=_poses, mmaction=_clips)


def _picture_size(config: Config) -> tuple[int, int]:
    """Read (height, width) of a picture in landscape, as it is padded."""
    steps = config.get('test_pipeline') or ()
    scales = (s.get('scale') for s in steps if 'Resize' in str(s.get('type')))
    scale = next((s for s in scales if isinstance(s, (tuple, list))), _COCO)
    known = config.get('data_preprocessor')
    known = config.model.get('data_preprocessor', known) or {}
    step = known.get('pad_size_divisor', 1)
    height, width = (-(-side // step) * step for side in sorted(scale))
    return height, width


def _crop_size(config: Config) -> tuple[int, int] | None:
    """Read (height, width) of what a pose estimator gets."""
    codec = config.get('codec') or {}
    for known in [codec] if isinstance(codec, dict) else codec:
        if known.get('input_size') is not None:
            width, height = known['input_size'][:2]
            return height, width
    return None


#: Of recognizers it is the largest of those that are tried.
_FULL_SIZES = dict(mmdet=_picture_size, mmpose=_crop_size)


class Probe(nn.Module):
    """A model, called as far as there is nothing to choose.

    Boxes that score best, or overlap least, jump from one to the other at
    the slightest difference: proposals are the same in each frame.

    Args:
        model: A host's model, whose children are those of the probe.
        only_features: Call ``extract_feat`` and no head.
    """

    def __init__(self, model: nn.Module, only_features: bool = False) -> None:
        super().__init__()
        self._modules = model._modules
        # In a tuple, so that it is no child.
        self._model = (model,)
        self.only_features = only_features
        rpn_head = getattr(model, 'rpn_head', None)
        if rpn_head is not None and getattr(model, 'roi_head', None):
            rpn_head.predict = _propose(rpn_head)

    def forward(
        self, images: Tensor, samples: Sequence[BaseDataElement]
    ) -> Any:
        """Run the model on a frame."""
        model = self._model[0]
        if self.only_features:
            return model.extract_feat(images)
        return model(images, samples, mode='tensor')

    def record(
        self, images: Tensor, samples: Sequence[BaseDataElement]
    ) -> dict[str, list[Tensor]]:
        """Return the raw outputs for a frame, of the model and its children.

        Returns:
            Tensors by the name of a child that was called as a module; those
            of the model without one.
        """
        outputs: dict[str, list[Tensor]] = {}

        def keep(name: str) -> Callable:
            def hook(module: nn.Module, args: tuple, output: Any) -> None:
                outputs.setdefault(name, []).extend(_copies(output))

            return hook

        handles = [
            child.register_forward_hook(keep(name))
            for name, child in self.named_children()
        ]
        try:
            result = self(images.clone(), samples)
        finally:
            for handle in handles:
                handle.remove()
        outputs[''] = _copies(result)
        return outputs


def largest_error(
    actual: dict[str, list[Tensor]], expected: dict[str, list[Tensor]]
) -> tuple[float, str]:
    """Measure how far recorded outputs are from others.

    Args:
        actual: Outputs by part, from :meth:`Probe.record`.
        expected: Outputs of the same parts, computed in another way.

    Returns:
        The largest difference as a share of the largest value of its
        tensor, and the name of the part. Infinite where tensors are missing,
        of another shape, or not finite.
    """
    errors = [
        (error_between(actual[name], tensors), name)
        for name, tensors in expected.items()
    ]
    worst = max(error for error, _ in errors)
    # Parts come in the order in which they are called.
    return next((e, n) for e, n in errors if e >= min(worst, _NOTABLE))


def error_between(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference, see :func:`largest_error`."""
    if len(actual) != len(expected):
        return float('inf')
    worst = 0.0
    for ours, theirs in zip(actual, expected, strict=True):
        if ours.shape != theirs.shape:
            return float('inf')
        if ours.numel():
            scale = theirs.abs().max().clamp_min(1e-30)
            error = ((ours - theirs).abs().max() / scale).item()
            worst = max(worst, error if error == error else float('inf'))
    return worst


def _by_turns(models: list[ZooModel]) -> list[ZooModel]:
    """Sort models: the first of each folder, then the second, and so on."""
    met: Counter[Path] = Counter()
    turns = {}
    for model in models:
        turns[model] = met[model.path.parent]
        met[model.path.parent] += 1
    return sorted(models, key=turns.__getitem__)


def _relevant(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_relevant(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if key in _IRRELEVANT:
            continue
        if key.startswith('loss') and isinstance(item, dict):
            item = [item.get('type'), item.get('use_sigmoid')]
        if key == 'num_classes' and isinstance(item, int):
            item = 1
        kept[key] = _relevant(item)
    return kept


def _draw(
    name: str, value: Tensor, gain: float, generator: torch.Generator
) -> None:
    if value.dim() > 1 and name == 'weight':
        fan_in = max(value[0].numel(), 1)
        value.normal_(0, gain / math.sqrt(fan_in), generator=generator)
    elif value.dim() > 1 or 'bias' in name:
        value.normal_(0, 0.1, generator=generator)
    elif value.dim() == 1:
        value.uniform_(0.5, 1.5, generator=generator)


def _sample(host: str, size: Sequence[int]) -> BaseDataElement:
    module, name = _SAMPLES[host]
    size = tuple(size)
    sample = getattr(import_module(module), name)(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    sample.proposals = fixed_boxes(size)
    return sample


def _channels(model: dict[str, Any]) -> int:
    return model.get('backbone', {}).get('in_channels', 3)


def _sampling(config: Config) -> dict[str, Any]:
    """Return how a validation pipeline samples frames, if it says so."""
    names = ('val_pipeline', 'test_pipeline', 'train_pipeline')
    steps = [step for name in names for step in config.get(name) or ()]
    kinds = ('SampleFrames', 'UniformSampleFrames', 'UniformSample')
    kinds += ('SampleAVAFrames', 'DenseSampleFrames')
    found = (s for s in steps if str(s.get('type')).split('.')[-1] in kinds)
    return next(found, {})


def _propose(rpn_head: nn.Module) -> Callable:
    """Run a head's ``predict`` with boxes that depend on nothing."""
    predict = type(rpn_head).predict

    def predict_fixed(
        x: Sequence[Tensor],
        samples: Sequence[BaseDataElement],
        rescale: bool = False,
    ) -> list[Any]:
        results = predict(rpn_head, x, samples, rescale=rescale)
        if any('features' in result for result in results):
            return results  # learned ones, of Sparse R-CNN
        return [fixed_boxes(sample.img_shape) for sample in samples]

    return predict_fixed


def _copies(outputs: Any) -> list[Tensor]:
    return [
        leaf.detach().clone()
        for leaf in _pytree.tree_leaves(outputs)
        if torch.is_tensor(leaf) and leaf.is_floating_point()
    ]
