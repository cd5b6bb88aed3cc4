"""``stream`` and ``clip``: run a converted model over video."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .bindings import ClipBinding, StreamBinding
from .state import StreamState


@contextmanager
def stream(
    model: nn.Module, state: StreamState | None = None, num_frames: int = 1
) -> Iterator[StreamState]:
    """Show a converted model one video, forward by forward.

    Every forward of ``model`` is the next frame; the first one is the
    reference frame. A batch of B images is B streams in lock-step. A model
    is in one stream at a time; for several cameras give each its own state
    and open them in turn. For parallel threads, copy the model.

    Frames have to be finite, which is not checked here: a NaN would stay
    until the next reference frame where the memory is ``previous``.

    Args:
        model: A converted model, in eval mode.
        state: Where memory is kept; a new one, which dies with the block,
            if not given.
        num_frames: Consecutive frames of each stream in one batch,
            clip-major: (B*num_frames, C, H, W).

    Yields:
        The state.

    Raises:
        ValueError: Nothing is converted, ``num_frames`` < 1, or the state
            holds another model's memory.
        RuntimeError: The model is inside a stream or clip already.
    """
    _check_frames(num_frames)
    state = StreamState() if state is None else state
    with StreamBinding(model, state, num_frames):
        yield state


@contextmanager
def clip(model: nn.Module, num_frames: int) -> Iterator[None]:
    """Run a converted model over whole clips, in training or inference.

    Outputs and MACs equal those of a stream over the clip's frames. No
    memory is kept between calls.

    Args:
        model: A converted model.
        num_frames: Frames T per clip; inputs are (B*T, C, H, W), clip-major.

    Raises:
        ValueError: Nothing is converted, or ``num_frames`` < 1.
        RuntimeError: The model is inside a stream or clip already.
    """
    _check_frames(num_frames)
    with ClipBinding(model, num_frames):
        yield


def _check_frames(num_frames: int) -> None:
    if not isinstance(num_frames, int) or num_frames < 1:
        raise ValueError(
            f'expected num_frames to be a positive int, got {num_frames!r}'
        )
