"""Clips to draw from videos: which, in what order, with what randomness."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler

from mmskip.registry import DATA_SAMPLERS, FUNCTIONS

# Members of transforms that take other samples, in mmdet and mmpose.
MIXING = ('get_indexes', 'get_indices', 'num_aux_image')
# They look for a crop until it suits the boxes of the image, choose among
# its objects, or draw from generators of their own.
BOUND_TO_THE_IMAGE = (
    'Albu',
    'Albumentation',
    'InstaBoost',
    'MinIoURandomCrop',
    'MultiBranch',
    'RandomCenterCropPad',
    'RandomSamplingNegPos',
)


@FUNCTIONS.register_module()
class AllWindows:
    """Every window of a video is a clip, an epoch shows each once.

    With stride 1 and ``step`` up to the number of frames of a clip, every
    frame is in some window: the last window ends at the last frame.

    Args:
        step: Frames from one window to the next. Defaults to 1.

    Raises:
        ValueError: ``step`` is not a positive int.
    """

    def __init__(self, step: int = 1) -> None:
        self.step = check_positive('step', step)

    def __call__(self, num_starts: int) -> list[range]:
        """List the clips of a video.

        Args:
            num_starts: Number of positions at which a clip can start.

        Returns:
            For every clip the positions from which its start is drawn.
        """
        starts = [*range(0, num_starts, self.step)]
        if starts and starts[-1] != num_starts - 1:
            starts.append(num_starts - 1)
        return [range(start, start + 1) for start in starts]


@FUNCTIONS.register_module()
class RandomStart:
    """An epoch shows some clips of every video, wherever they start.

    Args:
        clips_per_video: Number of clips per video and epoch. Defaults to 1.

    Raises:
        ValueError: ``clips_per_video`` is not a positive int.
    """

    def __init__(self, clips_per_video: int = 1) -> None:
        self.clips_per_video = check_positive(
            'clips_per_video', clips_per_video
        )

    def __call__(self, num_starts: int) -> list[range]:
        """List the clips of a video, see :class:`AllWindows`."""
        return [range(num_starts)] * (self.clips_per_video * (num_starts > 0))


class ClipIndex(int):
    """Index of a clip that carries the seed of all that is random in it.

    It is an int, so batch samplers and workers pass it on as any other.
    """

    def __new__(cls, index: int, seed: int) -> 'ClipIndex':
        """Make an index.

        Args:
            index: The index.
            seed: The seed, 0 to 2**32 - 1.
        """
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.seed


@DATA_SAMPLERS.register_module()
class ClipSampler(DefaultSampler):
    """A ``DefaultSampler`` that also seeds every clip.

    The seed of a clip follows from the seed of the run, the epoch and the
    index of the clip. What a clip shows therefore depends neither on the
    number of workers nor on the rank that loads it nor on what was drawn
    before, and a resumed run continues as if it had not been interrupted.
    With other samplers clips draw from the random numbers of their worker,
    as all samples in mmengine do. Iteration-based loops may use it too.

    The :class:`mmskip.datasets.ClipDataset` must be the outermost dataset of
    the loader: others pass indices on without their seed.

    Args:
        dataset: The dataset; mmengine passes it.
        shuffle: Shuffle the clips in every epoch. Defaults to True.
        seed: Seed of the order and of the clips; mmengine passes it.
        round_up: Repeat clips until all ranks have as many. Defaults to True.
    """

    def __init__(
        self,
        dataset: Any,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        super().__init__(dataset, shuffle, seed, round_up)

    def __iter__(self) -> Iterator[ClipIndex]:
        """Iterate the indices of this rank."""
        for position, index in enumerate(super().__iter__()):
            # A sample repeated by `round_up` is in the second turn.
            turn = (self.rank + position * self.world_size) // len(
                self.dataset
            )
            yield ClipIndex(
                index, derive_seed(self.seed, self.epoch, turn, index)
            )


def build_windows(
    windows: Mapping | Callable | None,
) -> Callable[[int], list[range]]:
    """Build what lists the clips of a video, names with or without prefix.

    Raises:
        ValueError: It is neither callable nor the config of a known one.
    """
    if windows is None:
        return AllWindows()
    if callable(windows):
        return windows
    arguments = dict(windows) if isinstance(windows, Mapping) else {}
    kind = arguments.pop('type', None)
    if isinstance(kind, str):
        kind = FUNCTIONS.get(kind if '.' in kind else f'mmskip.{kind}')
    if not callable(kind):
        raise ValueError(
            "expected windows like dict(type='AllWindows', step=1) or "
            f"dict(type='RandomStart', clips_per_video=1), got {windows!r}"
        )
    return kind(**arguments)


def derive_seed(*parts: Any) -> int:
    """Return a seed, 0 to 2**32 - 1, that looks unrelated for other parts."""
    text = '/'.join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=4).digest(), 'little')


def check_positive(name: str, value: Any) -> int:
    """Return an option that must be a positive int.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f'expected {name} to be a positive int, got {value!r}'
        )
    return value


def find_transforms(dataset: Any) -> dict[str, Any]:
    """Find the transforms of a dataset and of those in it, by place.

    Args:
        dataset: A dataset, or a wrapper with ``dataset`` or ``datasets``.
    """
    found: dict[int, tuple[str, Any]] = {}

    def visit(place: str, node: Any) -> None:
        if id(node) in found:
            return
        found[id(node)] = (place, node)
        inner = getattr(node, 'transforms', ())
        inner = inner if isinstance(inner, (list, tuple)) else [inner]
        for number, transform in enumerate(inner):
            visit(f'{place}.{number}', transform)

    for number, part in enumerate(_walk_datasets(dataset)):
        if getattr(part, 'pipeline', None) is not None:
            visit(f'{number}', part.pipeline)
    return dict(found.values())


def check_sharing(dataset: Any) -> None:
    """Refuse transforms whose random choices cannot suit several images.

    Raises:
        ValueError: The dataset has such a transform.
    """
    for transform in find_transforms(dataset).values():
        name = type(transform).__name__
        if any(hasattr(transform, member) for member in MIXING):
            reason = 'mixes other samples into the image'
        elif getattr(transform, 'avoid_cache_randomness', False) or any(
            base.__name__ in BOUND_TO_THE_IMAGE
            for base in type(transform).__mro__
        ):
            reason = 'chooses by the image, or is marked as not to be shared'
        else:
            continue
        raise ValueError(
            f'expected transforms that can treat all frames of a clip alike, '
            f'got {name}, which {reason}; remove it from the pipeline, or '
            'replace it by one like RandomFlip, RandomChoiceResize, '
            'RandomCrop, RandomAffine or PhotoMetricDistortion'
        )


class SharedDraws:
    """Lets transforms repeat their random draws from sample to sample.

    mmcv marks methods of transforms whose result is random
    (``cache_randomness``) and offers a context that lets them return their
    first result again (``cache_random_params``). Two things keep us from
    entering that context as it is. It counts a method twice that a subclass
    overrides, and refuses: with mmdet imported, ``RandomChoice`` cannot be
    used in it. And a transform that draws beside its marked methods gets other
    numbers in the second frame, because the marked ones then draw nothing.

    So the marked methods are remembered here, by the list that the decorator
    keeps, and every transform and every marked method starts from a random
    state of its own (python, numpy, torch), which follows from the seed of the
    clip and the place of the transform. What a transform draws, and how much
    of it, is then of no concern to the others, and the random numbers of the
    process are left as they were.

    Args:
        seed: Seed of the draws.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._calls: Counter[str] = Counter()
        self._results: dict[tuple[str, int], Any] = {}
        self._undo: list[tuple[dict, str, dict]] = []

    def attach(self, place: str, transform: Any) -> None:
        """Take over a transform, until :meth:`detach`.

        Args:
            place: Its place, a name for its random state.
            transform: The transform.
        """
        marked = getattr(transform, '_methods_with_randomness', ())
        # Subclasses add to the one list of their common ancestor, so it has
        # names twice and names that this class does not have.
        for name in dict.fromkeys(marked):
            if hasattr(transform, name):
                self._replace(transform, name, f'{place}:{name}', True)
        if callable(getattr(transform, 'transform', None)):
            self._replace(transform, 'transform', place, False)

    def detach(self) -> None:
        """Give all transforms back as they were."""
        for attributes, name, before in reversed(self._undo):
            del attributes[name]
            attributes.update(before)
        self._undo.clear()

    @contextmanager
    def sample(self) -> Iterator[None]:
        """Process a sample with the draws of the first."""
        self._calls.clear()
        with random_state(derive_seed(self.seed)):
            yield

    def _replace(
        self, owner: Any, name: str, place: str, remember: bool
    ) -> None:
        original = getattr(owner, name)

        def shared(*args: Any, **kwargs: Any) -> Any:
            call = place, self._calls[place]
            self._calls[place] += 1
            if call in self._results:
                return copy.deepcopy(self._results[call])
            with random_state(derive_seed(self.seed, *call)):
                result = original(*args, **kwargs)
            if remember:
                self._results[call] = copy.deepcopy(result)
            return result

        attributes = vars(owner)
        before = {k: v for k, v in attributes.items() if k == name}
        self._undo.append((attributes, name, before))
        attributes[name] = shared


@contextmanager
def share_draws(dataset: Any, seed: int) -> Iterator[SharedDraws]:
    """Let several samples of a dataset get the same random draws.

    Args:
        dataset: The dataset.
        seed: Seed of the draws.

    Yields:
        What to enter the context ``sample()`` of for each sample.
    """
    draws = SharedDraws(seed)
    try:
        for place, transform in find_transforms(dataset).items():
            draws.attach(place, transform)
        yield draws
    finally:
        draws.detach()


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed python, numpy and torch (CPU), and put them back afterwards."""
    states = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002 (what transforms draw from)
        torch.get_rng_state(),
    )
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    # `torch.manual_seed` would also touch the generators of GPUs.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _walk_datasets(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and all that it wraps."""
    yield dataset
    inner = [*getattr(dataset, 'datasets', ())]
    if hasattr(dataset, 'dataset'):
        inner.append(dataset.dataset)
    for part in inner:
        yield from _walk_datasets(part)
