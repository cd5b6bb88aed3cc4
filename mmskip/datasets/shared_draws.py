"""The same random numbers for every frame of a clip.

mmcv marks methods of transforms whose result is random
(``cache_randomness``) and offers a context that lets them return their first
result again (``cache_random_params``). Two things keep us from entering that
context as it is. It counts a method twice that a subclass overrides, and
refuses: with mmdet imported, ``RandomChoice`` cannot be used in it. And a
transform that draws beside its marked methods gets other numbers in the
second frame, because the marked ones then draw nothing.

So the marked methods are remembered here, by the list that the decorator
keeps, and every transform and every marked method starts from a random state
of its own (python, numpy, torch), which follows from the seed of the clip and
the place of the transform. What a transform draws, and how much of it, is
then of no concern to the others, and the random numbers of the process are
left as they were.
"""

import copy
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .clip_samplers import derive_seed

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


def find_transforms(dataset: Any) -> dict[str, Any]:
    """All transforms of a dataset and of those in it, by their place.

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
    """Lets transforms repeat their random choices from sample to sample.

    Args:
        seed: Seed of the choices.
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
        """Process a sample with the choices of the first."""
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
    """Let several samples of a dataset see the same random choices.

    Args:
        dataset: The dataset.
        seed: Seed of the choices.

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
    """A dataset and all that it wraps."""
    yield dataset
    inner = [*getattr(dataset, 'datasets', ())]
    if hasattr(dataset, 'dataset'):
        inner.append(dataset.dataset)
    for part in inner:
        yield from _walk_datasets(part)
