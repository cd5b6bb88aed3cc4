"""Inference of SoF-Net, which computes no more than was decided.

A policy goes on from the last frame that no policy skipped (Eq. 3.2), so
it is only known what becomes of a frame once the frames before it are done.
But what the layers make of a frame does not depend on the others. So all
frames of a window run stage by stage in one batch, as far as the policies
would let them go *if no further frame were used*; whenever a frame is used,
the policies decide anew on the ones behind it, and what is missing is run.
Decisions are those of one frame after the other; some work may turn out to be
for nothing, and is counted.

Symbols: B videos, n frames of a window, N places with a policy, K classes,
H of the hidden state, P values of a frame's half of a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import in_turns

from .decisions import EarlyExit
from .policy import (
    PolicyDecision,
    RecurrentState,
    StackedPolicies,
    StopOrForwardHead,
)
from .stages import StageCosts, list_stages

NOT_EXAMINED = -1  # in place of the place where a frame stopped

Row = tuple[int, int]  # a video of the batch, and a frame of its window


@dataclass(frozen=True)
class StagedNet:
    """Bundles the stages, policies and classifier that a frame runs through.

    Attributes:
        backbone: Backbone of a kind that :func:`list_stages` knows.
        cls_head: Classifier of the last feature.
        policies: One per stage, or none: all frames are forwarded.
        early_exit: Rule that ends a video; None never does.
        costs: MACs of a frame of this size.
        frames_together: Most frames that run through a stage at once.
        uses_sigmoid: True takes sigmoids as scores (a classifier trained by
            binary cross entropy) in place of the softmax of Eq. 3.6.
        stages: Stages of the backbone, listed when this is made.
        stacked: The policies together; None without any.
    """

    backbone: nn.Module
    cls_head: nn.Module
    policies: list[StopOrForwardHead]
    early_exit: EarlyExit | None
    costs: StageCosts
    frames_together: int
    uses_sigmoid: bool = False
    stages: list[nn.Sequential] = field(init=False)
    stacked: StackedPolicies | None = field(init=False)

    def __post_init__(self) -> None:
        stacked = StackedPolicies(self.policies) if self.policies else None
        object.__setattr__(self, 'stacked', stacked)
        object.__setattr__(self, 'stages', list_stages(self.backbone))

    @property
    def places(self) -> int:
        """Number of places where a frame may stop."""
        return len(self.stages)

    def scores(self, logits: Tensor) -> Tensor:
        """Turn logits (B, K) into probabilities."""
        return logits.sigmoid() if self.uses_sigmoid else logits.softmax(-1)


class VideoInference:
    """Runs B videos, window by window, as far as policies forward frames.

    Args:
        net: Layers and rules to run.
        videos: B.
        forced: For each video, the place where each of its frames stops,
            whatever policies and early exit say, as in ``stops``; frames
            behind the last examined one end the video. The policies run all
            the same. None: nothing is forced.

    Attributes:
        stops: For each frame so far a list of B ints: the place where it
            stopped, the number of places if it was forwarded to the end, -1
            if it was not examined.
        done: For each video, True once it has terminated.
        runner: Runs the layers and counts what ran.
    """

    def __init__(
        self,
        net: StagedNet,
        videos: int,
        forced: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.net = net
        self.stops: list[list[int]] = []
        self._forced = forced
        self.done = [False] * videos
        self.runner = StageRunner(net, videos)
        self._examined = [0] * videos
        self._used = [0] * videos
        self._logits: list[Tensor | None] = [None] * videos
        self._state = None
        if net.stacked is not None:
            self._state = net.stacked.initial_state(videos)
        self._furthest: list[_Furthest | None] = [None] * videos
        self._rescued: dict[Row, Tensor] = {}

    def run(
        self, frames: Tensor, chosen: Sequence[Sequence[bool]] | None = None
    ) -> None:
        """Run the next n frames of each video.

        Args:
            frames: (B, n, C, H, W).
            chosen: For each video n bools, True for the frames to examine;
                all if not given. Videos that have terminated are left alone
                in any case.
        """
        videos, length = frames.shape[:2]
        begin = len(self.stops)
        self.stops += [[NOT_EXAMINED] * videos for _ in range(length)]
        pending = [
            [
                (video, frame)
                for frame in range(length)
                if not self.done[video]
                and (chosen is None or chosen[video][frame])
            ]
            for video in range(videos)
        ]
        forced = self._forced and [
            row[begin : begin + length] for row in self._forced
        ]
        window = _Window(frames, self.runner, forced)
        window.advance(list(chain(*pending)), self._state)
        while any(pending):
            places, decision = self._decide(window)
            waiting = [
                (video, frame)
                for video, frame in chain(*pending)
                if window.depth[video][frame]
                <= min(places[video][frame], self.net.places)
            ]
            if waiting:
                window.advance(waiting, self._state)
                continue
            used: list[Row] = []
            for video, rows in enumerate(pending):
                pending[video] = self._settle(
                    rows, places[video], used, window, begin
                )
            if used and decision is not None:
                # All at once: memory's weights are read, and little is done.
                self.net.stacked.update(
                    self._state, decision, *map(list, zip(*used, strict=True))
                )

    def logits(self) -> Tensor:
        """Aggregate the logits (B, K) so far (Eq. 3.6).

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
                stops[video][self._furthest[video].frame] = self.net.places
        return logits, stops, self.runner.macs

    def _decide(
        self, window: '_Window'
    ) -> tuple[list[list[int]], PolicyDecision | None]:
        """Find where the frames of a window would stop if none were used.

        Returns:
            For each video and frame the first place whose policy stops it,
            among those it has come to; one behind the last of them if none
            does. And the decision of the policies, if there are any.
        """
        if self._state is None:
            return [[self.net.places] * len(d) for d in window.depth], None
        decision = self.net.stacked.decide(window.projected, self._state)
        stops = window.stops(decision.margin)
        places = [
            [
                next((p for p in range(min(d, len(s))) if s[p]), d)
                for d, s in zip(depths, video, strict=True)
            ]
            for depths, video in zip(window.depth, stops, strict=True)
        ]
        return places, decision

    def _settle(
        self,
        rows: list[Row],
        places: list[int],
        used: list[Row],
        window: '_Window',
        begin: int,
    ) -> list[Row]:
        """Note what became of frames of a video, up to the first one used.

        That one is added to ``used`` if the video goes on. Without policies
        all of them are noted. Those left are returned.
        """
        end = self.net.places
        for index, row in enumerate(rows):
            video, frame = row
            place = min(places[frame], end)
            self.stops[begin + frame][video] = place
            self._examined[video] += 1
            if place < end:
                self._keep_furthest(video, begin + frame, place, window, row)
            else:
                self._use(video, window.logits[row])
            self._terminate(video)
            if self.done[video]:
                return []
            if place == end and self._state is not None:
                used.append(row)
                return rows[index + 1 :]
        return []

    def _keep_furthest(
        self, video: int, frame: int, place: int, window: '_Window', row: Row
    ) -> None:
        """Keep a stopped frame if it got further than those before it."""
        best = self._furthest[video]
        if self._used[video] or (best is not None and best.place >= place):
            return
        depth = min(window.depth[video][row[1]], self.net.places)
        # Cloned: in-place layers may follow, and the batch may be let go.
        feature = window.maps[row].clone()
        self._furthest[video] = _Furthest(place, frame, depth, feature)

    def _use(self, video: int, logits: Tensor) -> None:
        """Add the logits of a frame that came to the end."""
        so_far = self._logits[video]
        self._logits[video] = logits if so_far is None else so_far + logits
        self._used[video] += 1
        self._furthest[video] = None

    def _terminate(self, video: int) -> None:
        """Terminate early (Eq. 3.7)."""
        if self._forced is not None:
            places = self._forced[video]
            last = sum(place != NOT_EXAMINED for place in places)
            self.done[video] = self._examined[video] == last < len(places)
            return
        rule, used = self.net.early_exit, self._used[video]
        if rule is not None and used:
            scores = self.net.scores(self._logits[video][None] / used)
            ends = rule.terminates(scores, self._examined[video])
            self.done[video] = bool(ends)

    def _key(self, video: int) -> Row:
        return video, self._furthest[video].frame

    def _rescue(self, videos: list[int]) -> tuple[list[int], Tensor]:
        """Run the remaining layers for the furthest frames of videos.

        Returns:
            The videos in another order, and logits (n, K).
        """
        order: list[int] = []
        x: Tensor | None = None
        for depth in range(self.net.places + 1):
            if x is not None:
                x = self.runner.run_stage(depth - 1, x, order)
            here = [v for v in videos if self._furthest[v].depth == depth]
            if here:
                joining = torch.stack(
                    [self._furthest[v].feature for v in here]
                )
                x = joining if x is None else torch.cat([x, joining])
                order += here
        return order, self.runner.classify(x, order)


class StageRunner:
    """Runs the layers of a net and counts what ran.

    Args:
        net: Layers to run.
        videos: B.

    Attributes:
        rows: Number of frames that ran through each stage and, last, the
            classifier, since :meth:`take_rows`.
        macs: MACs spent on each video, policies included.
    """

    def __init__(self, net: StagedNet, videos: int) -> None:
        self.net = net
        self.rows = [0] * (net.places + 1)
        self.macs = [0] * videos
        policies = [policy.frame_macs for policy in net.policies]
        policies += [0] * (net.places - len(policies))
        self._stage_macs = [
            stage + policy
            for stage, policy in zip(net.costs.by_stage, policies, strict=True)
        ]
        self._head_macs = sum(net.costs.head.values())

    def run_stage(self, place: int, x: Tensor, videos: list[int]) -> Tensor:
        """Run a stage; x (n, C, h, w) are frames of these n videos."""
        self._count(place, self._stage_macs[place], videos)
        return in_turns(self.net.stages[place], x, self.net.frames_together)

    def classify(self, x: Tensor, videos: list[int]) -> Tensor:
        """Compute logits (n, K) from the last stage's features of n frames."""
        self._count(-1, self._head_macs, videos)
        return self.net.cls_head(x, num_segs=1)

    def take_rows(self) -> list[int]:
        """Return ``rows`` and begin anew."""
        rows, self.rows = self.rows, [0] * len(self.rows)
        return rows

    def _count(self, place: int, macs: int, videos: list[int]) -> None:
        self.rows[place] += len(videos)
        for video in videos:
            self.macs[video] += macs


class _Furthest(NamedTuple):
    """Keeps the frame of a video that got furthest.

    Attributes:
        place: Place where it stopped.
        frame: Index of the frame in the video.
        depth: Number of stages that it has been through.
        feature: (C, h, w), the output of the last of them.
    """

    place: int
    frame: int
    depth: int
    feature: Tensor


class _Window:
    """Runs n frames of each of B videos together.

    Args:
        frames: (B, n, C, H, W).
        runner: Runs the layers.
        forced: For each video the places where its frames stop, whatever the
            policies say; None: they decide.

    Attributes:
        depth: For each frame of each video, the number of stages that it has
            been through; one more if it has been classified.
        maps: Feature (C, h, w) of a frame behind its last stage.
        logits: Logits (K,) of a frame that has been classified.
        projected: (N, B, n, P), the frames' half of the decisions. It means
            nothing at places that a frame has not come to. None before the
            first decision.
    """

    def __init__(
        self,
        frames: Tensor,
        runner: StageRunner,
        forced: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.runner = runner
        self.net = runner.net
        self._forced = forced
        self.depth = [[0] * frames.shape[1] for _ in frames]
        self._frames = frames
        self.maps: dict[Row, Tensor] = {}
        self.logits: dict[Row, Tensor] = {}
        self.projected: Tensor | None = None

    def stops(self, margin: Tensor) -> list[list[list[bool]]]:
        """Tell for each video, frame and place if a policy stops it there.

        Args:
            margin: (N, B, n), see :class:`PolicyDecision`.
        """
        if self._forced is None:
            return (margin < 0).movedim(0, 2).tolist()
        return [
            [[place == stop for place in range(len(margin))] for stop in row]
            for row in self._forced
        ]

    def advance(
        self, rows: Sequence[Row], state: RecurrentState | None
    ) -> None:
        """Run frames through further stages, until a policy stops them.

        Args:
            rows: Frames that nothing holds back where they are.
            state: Recurrent state behind the last frames that were used;
                None without policies.
        """
        joining: list[list[Row]] = [[] for _ in range(self.net.places + 1)]
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
            if place == self.net.places:
                logits = self.runner.classify(x, videos)
                self.maps.update(zip(moving, x, strict=True))
                self.logits.update(zip(moving, logits, strict=True))
                break
            x = self.runner.run_stage(place, x, videos)
            if state is not None:
                x, moving = self._apply_policy(place, x, moving, state)

    def _apply_policy(
        self, place: int, x: Tensor, moving: list[Row], state: RecurrentState
    ) -> tuple[Tensor, list[Row]]:
        """Keep the frames that a policy stops, return those that go on."""
        policy = self.net.policies[place]
        videos, frames = map(list, zip(*moving, strict=True))
        projected = policy(x)
        if self.projected is None:
            shape = (*self._frames.shape[:2], projected.shape[-1])
            self.projected = projected.new_zeros(self.net.places, *shape)
        self.projected[place, videos, frames] = projected
        here = slice(place, place + 1)
        past = RecurrentState(*(values[here, videos] for values in state))
        decision = self.net.stacked.decide(
            projected[None, :, None], past, here
        )
        forward = (decision.margin.flatten() >= 0).tolist()
        if self._forced is not None:
            forward = [self._forced[v][f] != place for v, f in moving]
        if all(forward):
            return x, moving
        stopped = [i for i, goes_on in enumerate(forward) if not goes_on]
        for i in stopped:
            self.maps[moving[i]] = x[i]
        going = [i for i, goes_on in enumerate(forward) if goes_on]
        return x[going], [moving[i] for i in going]

    def _join(
        self, x: Tensor | None, rows: list[Row], place: int
    ) -> Tensor | None:
        """Add frames, as they come to a place, to a batch."""
        if not rows:
            return x
        if place:
            new = torch.stack([self.maps[row] for row in rows])
        elif len(rows) == self._frames.shape[:2].numel():
            new = self._frames.flatten(0, 1)
        else:
            videos, frames = map(list, zip(*rows, strict=True))
            new = self._frames[videos, frames]
        return new if x is None or not len(x) else torch.cat([x, new])
