"""Looking at videos frame by frame, computing no more than was decided.

The policies see the state of the last frame that was not skipped at *any*
place (Eq. 3.2), so nothing of a frame behind its first policy can begin
before all has been decided for the frame before it. Batches are therefore of
videos: B of them in lock-step over their frames, and from stage to stage the
frames that go on move together.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmskip.layers import StopOrForwardHead

from .costs import StageCosts
from .early_exit import EarlyExit
from .stages import list_stages

UNSEEN = -1


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
    """

    backbone: nn.Module
    cls_head: nn.Module
    policies: list[StopOrForwardHead]
    early_exit: EarlyExit | None
    costs: StageCosts
    uses_sigmoid: bool = False

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities of logits (B, K)."""
        return logits.sigmoid() if self.uses_sigmoid else logits.softmax(-1)


class Furthest(NamedTuple):
    """The frame of a video that got furthest.

    Attributes:
        place: Where it stopped.
        frame: Its index.
        feature: (C, h, w), what the stage there gave.
    """

    place: int
    frame: int
    feature: Tensor


class Viewing:
    """B videos in lock-step.

    Args:
        parts: Who looks.
        videos: B.

    Attributes:
        stops: For each frame so far a list of B ints: the place where it
            stopped, the number of places if it was forwarded to the end, -1
            if it was not looked at.
        done: For each video, whether it has terminated.
        rows: How many frames ran through each stage and, last, the
            classifier, since :meth:`take_rows`.
    """

    def __init__(self, parts: Parts, videos: int) -> None:
        self.parts = parts
        self.stages = list_stages(parts.backbone)
        self.places = len(self.stages)
        self.stops: list[list[int]] = []
        self.done = [False] * videos
        self.rows = [0] * (self.places + 1)
        self._looked = [0] * videos
        self._used = [0] * videos
        self._logits: list[Tensor | None] = [None] * videos
        self._states = [p.initial_state(videos) for p in parts.policies]
        self._furthest: list[Furthest | None] = [None] * videos
        self._rescued: dict[tuple[int, int], Tensor] = {}

    def look(self, frames: Tensor, chosen: list[bool] | None = None) -> None:
        """Look at the next frame of each video.

        Args:
            frames: (B, C, H, W).
            chosen: Videos whose frame is to be looked at, all if not given;
                those that have terminated are not, in any case.
        """
        videos = [
            v
            for v, done in enumerate(self.done)
            if not done and (chosen is None or chosen[v])
        ]
        self.stops.append([UNSEEN] * len(self.done))
        if not videos:
            return
        x = frames if len(videos) == len(frames) else frames[videos]
        states: list[Tensor] = []
        for place, stage in enumerate(self.stages):
            x = self._run(place, stage, x)
            if self.parts.policies:
                x, videos, states = self._stop(place, x, videos, states)
            if not videos:
                break
        else:
            self._use(x, videos, states)
        for video, stop in enumerate(self.stops[-1]):
            self._looked[video] += stop != UNSEEN
        self._terminate()

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
        costs = self._costs_by_stop()
        stops = [list(column) for column in zip(*self.stops, strict=True)]
        macs = [
            sum(costs[stop] for stop in column if stop != UNSEEN)
            for column in stops
        ]
        for video, used in enumerate(self._used):
            if not used:
                place, frame, _ = self._furthest[video]
                stops[video][frame] = self.places
                macs[video] += self.parts.costs.remaining[place]
        return logits, stops, macs

    def take_rows(self) -> list[int]:
        """Return ``rows`` and begin anew."""
        rows, self.rows = self.rows, [0] * (self.places + 1)
        return rows

    def _run(self, place: int, part: nn.Module, x: Tensor) -> Tensor:
        self.rows[place] += len(x)
        return part(x)

    def _classify(self, x: Tensor) -> Tensor:
        self.rows[-1] += len(x)
        return self.parts.cls_head(x, num_segs=1)

    def _stop(
        self, place: int, x: Tensor, videos: list[int], states: list[Tensor]
    ) -> tuple[Tensor, list[int], list[Tensor]]:
        """Ask a policy and leave out the frames that it stops.

        Args:
            place: Its place.
            x: (n, C, h, w) of the frames that have come so far.
            videos: Their n videos.
            states: (n, 2, H) that the earlier policies would keep.

        Returns:
            The same of those that go on.
        """
        before = self._states[place]
        if len(videos) < len(before):
            before = before[videos]
        step = self.parts.policies[place](x, before)
        states = [*states, step.state]
        forward = (step.margin >= 0).tolist()
        if all(forward):
            return x, videos, states
        for row, video in enumerate(videos):
            if not forward[row]:
                self.stops[-1][video] = place
                self._remember(video, place, x[row])
        keep = [row for row, goes_on in enumerate(forward) if goes_on]
        states = [state[keep] for state in states]
        return x[keep], [videos[row] for row in keep], states

    def _remember(self, video: int, place: int, feature: Tensor) -> None:
        """Keep a stopped frame if it got further than those before it."""
        best = self._furthest[video]
        if self._used[video] or (best is not None and best.place >= place):
            return
        frame = len(self.stops) - 1
        # Cloned: in-place layers may follow, and the batch may be let go.
        self._furthest[video] = Furthest(place, frame, feature.clone())

    def _use(self, x: Tensor, videos: list[int], states: list[Tensor]) -> None:
        """Add the logits of frames that came to the end; keep the states."""
        for video, logits in zip(videos, self._classify(x), strict=True):
            self.stops[-1][video] = self.places
            so_far = self._logits[video]
            self._logits[video] = logits if so_far is None else so_far + logits
            self._used[video] += 1
            self._furthest[video] = None
        for place, state in enumerate(states):
            self._states[place][videos] = state.to(self._states[place])

    def _terminate(self) -> None:
        """Terminate early (Eq. 3.7)."""
        rule = self.parts.early_exit
        if rule is None:
            return
        for video, used in enumerate(self._used):
            if used and not self.done[video]:
                logits = self._logits[video][None] / used
                scores = self.parts.scores(logits)
                enough = rule.enough(scores, self._looked[video])
                self.done[video] = bool(enough)

    def _key(self, video: int) -> tuple[int, int]:
        return video, self._furthest[video].frame

    def _rescue(self, videos: list[int]) -> tuple[list[int], Tensor]:
        """Run the remaining layers for the furthest frames of videos.

        Returns:
            The videos in another order, and logits (n, K).
        """
        order: list[int] = []
        x: Tensor | None = None
        for place, stage in enumerate(self.stages):
            if x is not None:
                x = self._run(place, stage, x)
            here = [v for v in videos if self._furthest[v].place == place]
            if here:
                joining = torch.stack(
                    [self._furthest[v].feature for v in here]
                )
                x = joining if x is None else torch.cat([x, joining])
                order += here
        return order, self._classify(x)

    def _costs_by_stop(self) -> list[int]:
        """MACs of a frame that stopped at each place, or came to the end."""
        policies = [p.frame_macs for p in self.parts.policies]
        policies += [0] * (self.places - len(policies))
        spent, costs = 0, []
        for stage, policy in zip(
            self.parts.costs.by_stage, policies, strict=True
        ):
            spent += stage + policy
            costs.append(spent)
        return [*costs, spent + sum(self.parts.costs.head.values())]
