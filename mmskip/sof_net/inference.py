"""Looking at videos, computing no more than was decided."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .decisions import EarlyExit
from .policy import Judges, Recollection, StopOrForwardHead, Verdict
from .stages import StageCosts, list_stages

Row = tuple[int, int]  # a video of the batch, and a frame of its window


@dataclass(frozen=True)
class Parts:
    """What takes part in looking.

    Attributes:
        backbone: See :func:`list_stages`.
        cls_head: Classifier of the last feature.
        policies: One per stage, or none: all frames are forwarded.
        early_exit: When to terminate; None never does.
        costs: MACs of a frame of this size.
        uses_sigmoid: Whether scores are sigmoids (a classifier trained by
            binary cross entropy) in place of the softmax of Eq. 3.6.
        stages: Of the backbone, at this moment.
        judges: The policies together; None without any.
    """

    backbone: nn.Module
    cls_head: nn.Module
    policies: list[StopOrForwardHead]
    early_exit: EarlyExit | None
    costs: StageCosts
    uses_sigmoid: bool = False
    stages: list[nn.Sequential] = field(init=False)
    judges: Judges | None = field(init=False)

    def __post_init__(self) -> None:
        judges = Judges(self.policies) if self.policies else None
        object.__setattr__(self, 'judges', judges)
        object.__setattr__(self, 'stages', list_stages(self.backbone))

    @property
    def places(self) -> int:
        """Number of places where a frame may stop."""
        return len(self.stages)

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities of logits (B, K)."""
        return logits.sigmoid() if self.uses_sigmoid else logits.softmax(-1)


class Meter:
    """Runs the parts and keeps count.

    Args:
        parts: What runs.
        videos: B.

    Attributes:
        rows: How many frames ran through each stage and, last, the
            classifier, since :meth:`take_rows`.
        macs: MACs spent on each video, policies included.
    """

    def __init__(self, parts: Parts, videos: int) -> None:
        self.parts = parts
        self.rows = [0] * (parts.places + 1)
        self.macs = [0] * videos
        policies = [policy.frame_macs for policy in parts.policies]
        policies += [0] * (parts.places - len(policies))
        self._stage_macs = [
            stage + policy
            for stage, policy in zip(
                parts.costs.by_stage, policies, strict=True
            )
        ]
        self._head_macs = sum(parts.costs.head.values())

    def run_stage(self, place: int, x: Tensor, videos: list[int]) -> Tensor:
        """Run a stage; x (n, C, h, w) are frames of these n videos."""
        self._count(place, self._stage_macs[place], videos)
        return self.parts.stages[place](x)

    def classify(self, x: Tensor, videos: list[int]) -> Tensor:
        """Logits (n, K) of the last stage's features of n frames."""
        self._count(-1, self._head_macs, videos)
        return self.parts.cls_head(x, num_segs=1)

    def take_rows(self) -> list[int]:
        """Return ``rows`` and begin anew."""
        rows, self.rows = self.rows, [0] * len(self.rows)
        return rows

    def _count(self, place: int, macs: int, videos: list[int]) -> None:
        self.rows[place] += len(videos)
        for video in videos:
            self.macs[video] += macs


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
