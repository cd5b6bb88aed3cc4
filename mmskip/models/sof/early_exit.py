"""When enough has been seen of a video (SoF-Net, section 3.2.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from mmskip.options import check_options


@check_options
@dataclass(frozen=True)
class EarlyExit:
    """Terminate once a class is certain (Eq. 3.7).

    Attributes:
        rho: The highest probability has to exceed this; 0.999 in the thesis.
            1 never terminates.
        t_min: More than this many frames have to be looked at (stopped ones
            count); 3 in the thesis. The authors' code looks at 5 frames at
            least, which is 4 here.

    Raises:
        ValueError: An option is out of range.
    """

    rho: float = 0.999
    t_min: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.rho <= 1:
            raise ValueError(f'expected rho in (0, 1], got {self.rho!r}')
        if not isinstance(self.t_min, int) or self.t_min < 0:
            raise ValueError(
                f'expected t_min to be an int >= 0, got {self.t_min!r}'
            )

    def check_length(self, frames: int) -> None:
        """Refuse videos of so few frames that nothing could terminate.

        Raises:
            ValueError: ``t_min`` is not below the number of frames.
        """
        if self.t_min >= frames:
            raise ValueError(
                f'expected t_min below the number of frames T, got '
                f't_min={self.t_min} and T={frames}: no video could '
                'terminate early; lower t_min, sample more frames, or set '
                'early_exit=None'
            )

    def enough(self, scores: Tensor, looked: int) -> Tensor:
        """Which videos are done.

        Args:
            scores: Probabilities (B, K) after ``looked`` frames.
            looked: Frames looked at.

        Returns:
            Bool (B,).
        """
        if looked <= self.t_min:
            return scores.new_zeros(len(scores)).bool()
        return scores.amax(-1) > self.rho


def windows(
    frames: int, lookahead: int, early_exit: EarlyExit | None
) -> Iterator[slice]:
    """Which frames of a video run together: none too early to end it.

    Args:
        frames: Of the video.
        lookahead: How many run together; 1 looks ahead at nothing.
        early_exit: What may end the video.

    Yields:
        Slices that cover all frames, in order.
    """
    start = 0
    while start < frames:
        length = lookahead
        if early_exit is not None and start == 0 and length > 1:
            length = early_exit.t_min + 1
        yield slice(start, start + length)
        start += length
