"""Looking at videos, computing no more than was decided."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from mmskip.layers import Verdict

from .parts import Meter, Parts, Row
from .window import Window

UNSEEN = -1


class Furthest(NamedTuple):
    """The frame of a video that got furthest.

    Attributes:
        place: Where it stopped.
        frame: Its index.
        depth: How many stages it has been through.
        feature: (C, h, w), what the last of them gave.
    """

    place: int
    frame: int
    depth: int
    feature: Tensor


class Viewing:
    """B videos, window by window.

    Args:
        parts: Who looks.
        videos: B.

    Attributes:
        stops: For each frame so far a list of B ints: the place where it
            stopped, the number of places if it was forwarded to the end, -1
            if it was not looked at.
        done: For each video, whether it has terminated.
        meter: What ran.
    """

    def __init__(self, parts: Parts, videos: int) -> None:
        self.parts = parts
        self.stops: list[list[int]] = []
        self.done = [False] * videos
        self.meter = Meter(parts, videos)
        self._looked = [0] * videos
        self._used = [0] * videos
        self._logits: list[Tensor | None] = [None] * videos
        self._known = None
        if parts.judges is not None:
            self._known = parts.judges.begin(videos)
        self._furthest: list[Furthest | None] = [None] * videos
        self._rescued: dict[Row, Tensor] = {}

    def look(
        self, frames: Tensor, chosen: Sequence[Sequence[bool]] | None = None
    ) -> None:
        """Look at the next n frames of each video.

        Args:
            frames: (B, n, C, H, W).
            chosen: For each video, which of them are to be looked at; all
                if not given. Of those that have terminated none is, in any
                case.
        """
        videos, length = frames.shape[:2]
        begin = len(self.stops)
        self.stops += [[UNSEEN] * videos for _ in range(length)]
        pending = [
            [
                (video, frame)
                for frame in range(length)
                if not self.done[video]
                and (chosen is None or chosen[video][frame])
            ]
            for video in range(videos)
        ]
        window = Window(frames, self.meter)
        window.advance(list(chain(*pending)), self._known)
        while any(pending):
            places, verdict = self._judge(window)
            waiting = [
                (video, frame)
                for video, frame in chain(*pending)
                if window.depth[video][frame]
                <= min(places[video][frame], self.parts.places)
            ]
            if waiting:
                window.advance(waiting, self._known)
                continue
            for video, row in enumerate(pending):
                pending[video] = self._settle(
                    row, places[video], verdict, window, begin
                )

    def logits(self) -> Tensor:
        """Aggregated logits (B, K) so far (Eq. 3.6).

        A video without any used frame is answered by the frame that got
        furthest, the first if there are several: its remaining layers are
        run now, if they have not been already.
        """
        lost = [v for v, used in enumerate(self._used) if not used]
        missing = [v for v in lost if self._key(v) not in self._rescued]
        if missing:
            for video, logits in zip(*self._rescue(missing), strict=True):
                self._rescued[self._key(video)] = logits
        return torch.stack(
            [
                self._rescued[self._key(video)]
                if not used
                else self._logits[video] / used
                for video, used in enumerate(self._used)
            ]
        )

    def finish(self) -> tuple[Tensor, list[list[int]], list[int]]:
        """End the videos.

        Returns:
            Logits (B, K); for each video the places where its frames
            stopped, in which a frame that was rescued by :meth:`logits` has
            gone to the end; and the MACs spent on each video.
        """
        logits = self.logits()
        stops = [list(column) for column in zip(*self.stops, strict=True)]
        for video, used in enumerate(self._used):
            if not used:
                stops[video][self._furthest[video].frame] = self.parts.places
        return logits, stops, self.meter.macs

    def _judge(self, window: Window) -> tuple[list[list[int]], Verdict | None]:
        """Where the frames of a window would stop if none were used.

        Returns:
            For each video and frame the first place whose policy stops it,
            of those it has come to; one behind the last of them if none
            does. And what the policies say, if there are any.
        """
        if self._known is None:
            return [[self.parts.places] * len(d) for d in window.depth], None
        verdict = window.judge(self._known)
        stops = (verdict.margin < 0).movedim(0, 2).tolist()
        places = [
            [
                next((p for p in range(min(d, len(s))) if s[p]), d)
                for d, s in zip(depths, video, strict=True)
            ]
            for depths, video in zip(window.depth, stops, strict=True)
        ]
        return places, verdict

    def _settle(
        self,
        rows: list[Row],
        places: list[int],
        verdict: Verdict | None,
        window: Window,
        begin: int,
    ) -> list[Row]:
        """Note what became of frames of a video, up to the first one used.

        All of them without policies. What is left is returned.
        """
        end = self.parts.places
        for index, row in enumerate(rows):
            video, frame = row
            place = min(places[frame], end)
            self.stops[begin + frame][video] = place
            self._looked[video] += 1
            if place < end:
                self._remember(video, begin + frame, place, window, row)
            else:
                self._use(video, window.logits_of(row))
            self._terminate(video)
            if self.done[video]:
                return []
            if place == end and verdict is not None:
                self.parts.judges.remember(self._known, video, verdict, frame)
                return rows[index + 1 :]
        return []

    def _remember(
        self, video: int, frame: int, place: int, window: Window, row: Row
    ) -> None:
        """Keep a stopped frame if it got further than those before it."""
        best = self._furthest[video]
        if self._used[video] or (best is not None and best.place >= place):
            return
        depth = min(window.depth[video][row[1]], self.parts.places)
        # Cloned: in-place layers may follow, and the batch may be let go.
        feature = window.map_of(row).clone()
        self._furthest[video] = Furthest(place, frame, depth, feature)

    def _use(self, video: int, logits: Tensor) -> None:
        """Add the logits of a frame that came to the end."""
        so_far = self._logits[video]
        self._logits[video] = logits if so_far is None else so_far + logits
        self._used[video] += 1
        self._furthest[video] = None

    def _terminate(self, video: int) -> None:
        """Terminate early (Eq. 3.7)."""
        rule, used = self.parts.early_exit, self._used[video]
        if rule is None or not used or self._looked[video] <= rule.t_min:
            return
        scores = self.parts.scores(self._logits[video][None] / used)
        self.done[video] = bool(rule.enough(scores, self._looked[video]))

    def _key(self, video: int) -> Row:
        return video, self._furthest[video].frame

    def _rescue(self, videos: list[int]) -> tuple[list[int], Tensor]:
        """Run the remaining layers for the furthest frames of videos.

        Returns:
            The videos in another order, and logits (n, K).
        """
        order: list[int] = []
        x: Tensor | None = None
        for depth in range(self.parts.places + 1):
            if x is not None:
                x = self.meter.run_stage(depth - 1, x, order)
            here = [v for v in videos if self._furthest[v].depth == depth]
            if here:
                joining = torch.stack(
                    [self._furthest[v].feature for v in here]
                )
                x = joining if x is None else torch.cat([x, joining])
                order += here
        return order, self.meter.classify(x, order)
