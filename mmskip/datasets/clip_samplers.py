"""Which clips there are, and in which order and with which seeds."""

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from mmengine.dataset import DefaultSampler

from mmskip.registry import DATA_SAMPLERS, FUNCTIONS


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
        shuffle: As of ``DefaultSampler``. Defaults to True.
        seed: As of ``DefaultSampler``; mmengine passes it.
        round_up: As of ``DefaultSampler``. Defaults to True.
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
    """A seed, 0 to 2**32 - 1, that looks unrelated for other parts."""
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
