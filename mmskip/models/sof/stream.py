"""A video that arrives frame by frame."""

from typing import TYPE_CHECKING, NamedTuple

from mmaction.structures import ActionDataSample
from torch import Tensor

from .viewing import Viewing

if TYPE_CHECKING:
    from .recognizer import SoFRecognizer


class Answer(NamedTuple):
    """What is known after a frame.

    Attributes:
        scores: Probabilities (K,).
        label: The most probable class.
        enough: Enough has been seen (Eq. 3.7): further frames would change
            nothing and cost nothing.
        stop: Place where this frame stopped, the number of places if it was
            forwarded to the end, -1 if it was not looked at.
    """

    scores: Tensor
    label: int
    enough: bool
    stop: int


class SoFStream:
    """One video, frame by frame, as :meth:`SoFRecognizer.stream` opens it.

    After t frames the answer is that of the recognizer for a video of those
    t frames. While every frame so far was stopped, that takes the remaining
    layers of the one that got furthest, which are run once for each frame
    that gets further than those before it.

    Args:
        recognizer: In eval mode.

    Raises:
        RuntimeError: The recognizer is in training mode.
    """

    def __init__(self, recognizer: 'SoFRecognizer') -> None:
        if recognizer.training:
            raise RuntimeError(
                'expected a recognizer in eval mode, got one in training '
                'mode; call its eval()'
            )
        self.recognizer = recognizer
        self._viewing: Viewing | None = None
        self._answer: Answer | None = None

    def look(self, frame: Tensor) -> Answer:
        """Look at the next frame.

        Args:
            frame: (C, H, W), as the test pipeline packs it (0 to 255, not
                normalised).

        Raises:
            ValueError: The frame has another number of dimensions.
        """
        if frame.dim() != 3:
            raise ValueError(
                f'expected a frame (C, H, W), got {tuple(frame.shape)}'
            )
        if self._answer is not None and self._answer.enough:
            return self._answer._replace(stop=-1)
        data = self.recognizer.data_preprocessor(
            dict(inputs=[frame[None]], data_samples=[ActionDataSample()])
        )
        inputs = data['inputs']
        if self._viewing is None:
            self._viewing = Viewing(
                self.recognizer.parts(inputs.shape[2:]), videos=1
            )
        scores = self.recognizer(inputs, mode='look', viewing=self._viewing)
        self._answer = Answer(
            scores[0],
            int(scores[0].argmax()),
            self._viewing.done[0],
            self._viewing.stops[-1][0],
        )
        return self._answer
