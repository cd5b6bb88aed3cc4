"""The next frames of some videos, computed together.

A policy goes on from the last frame that no policy skipped (Eq. 3.2), so
what becomes of a frame is only known once the frames before it are done. But
what the layers make of a frame does not depend on the others. So all frames
of a window run stage by stage in one batch, as far as the policies would let
them go *if no further frame were used*; whenever a frame is used, the ones
behind it are judged anew, and what is missing is run. Decisions are those of
one frame after the other; some work may turn out to be for nothing, and is
counted.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmskip.layers import Recollection, Verdict

from .parts import Meter, Row


class Window:
    """n frames of each of B videos.

    Args:
        frames: (B, n, C, H, W).
        meter: Runs the layers.

    Attributes:
        depth: For each frame of each video, how many stages it has been
            through; one more if it has been classified.
    """

    def __init__(self, frames: Tensor, meter: Meter) -> None:
        self.meter = meter
        self.parts = meter.parts
        self.depth = [[0] * frames.shape[1] for _ in frames]
        self._frames = frames
        self._maps: dict[Row, Tensor] = {}
        self._logits: dict[Row, Tensor] = {}
        self._prepared: Tensor | None = None  # (N, B, n, P)

    def map_of(self, row: Row) -> Tensor:
        """What the last stage that ran gave for a frame, (C, h, w)."""
        return self._maps[row]

    def logits_of(self, row: Row) -> Tensor:
        """Logits (K,) of a frame that has been classified."""
        return self._logits[row]

    def judge(self, known: Recollection) -> Verdict:
        """Ask all policies about all frames.

        What they say of places that a frame has not come to means nothing.

        Args:
            known: Of the last frames that were used.
        """
        return self.parts.judges.judge(self._prepared, known)

    def advance(self, rows: Sequence[Row], known: Recollection | None) -> None:
        """Run frames through further stages, until a policy stops them.

        Args:
            rows: Frames that nothing holds back where they are.
            known: See :meth:`judge`; None without policies.
        """
        joining: list[list[Row]] = [[] for _ in range(self.parts.places + 1)]
        for video, frame in rows:
            joining[self.depth[video][frame]].append((video, frame))
        moving: list[Row] = []
        x: Tensor | None = None
        for place, new in enumerate(joining):
            x = self._join(x, new, place)
            moving = [*moving, *new]
            if not moving:
                continue
            for video, frame in moving:
                self.depth[video][frame] = place + 1
            videos = [video for video, _ in moving]
            if place == self.parts.places:
                logits = self.meter.classify(x, videos)
                self._maps.update(zip(moving, x, strict=True))
                self._logits.update(zip(moving, logits, strict=True))
                break
            x = self.meter.run_stage(place, x, videos)
            if known is not None:
                x, moving = self._ask(place, x, moving, known)

    def _ask(
        self, place: int, x: Tensor, moving: list[Row], known: Recollection
    ) -> tuple[Tensor, list[Row]]:
        """Ask a policy; keep what it stops, return what goes on."""
        policy = self.parts.policies[place]
        videos, frames = map(list, zip(*moving, strict=True))
        prepared = policy(x)
        if self._prepared is None:
            shape = (*self._frames.shape[:2], prepared.shape[-1])
            self._prepared = prepared.new_zeros(self.parts.places, *shape)
        self._prepared[place, videos, frames] = prepared
        here = slice(place, place + 1)
        past = Recollection(*(part[here, videos] for part in known))
        verdict = self.parts.judges.judge(prepared[None, :, None], past, here)
        forward = (verdict.margin.flatten() >= 0).tolist()
        if all(forward):
            return x, moving
        stopped = [i for i, goes_on in enumerate(forward) if not goes_on]
        for i, feature in zip(stopped, x[stopped], strict=True):
            self._maps[moving[i]] = feature
        going = [i for i, goes_on in enumerate(forward) if goes_on]
        return x[going], [moving[i] for i in going]

    def _join(
        self, x: Tensor | None, rows: list[Row], place: int
    ) -> Tensor | None:
        """Add frames, as they come to a place, to a batch."""
        if not rows:
            return x
        if place:
            new = torch.stack([self._maps[row] for row in rows])
        elif len(rows) == self._frames.shape[:2].numel():
            new = self._frames.flatten(0, 1)
        else:
            videos, frames = map(list, zip(*rows, strict=True))
            new = self._frames[videos, frames]
        return new if x is None or not len(x) else torch.cat([x, new])
