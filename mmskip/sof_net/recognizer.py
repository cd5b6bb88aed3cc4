"""The recognizer of SoF-Net, for whole videos and frame by frame.

S. J. Hyeon, "Dynamic layer skipping for efficient action recognition", M.S.
thesis, Seoul National University, 2023. It is a 2D recognizer of mmaction2
whose frames stop at a stage or go forward. Symbols: B videos, T frames, K
classes.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from mmaction.models import Recognizer2D
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmskip.core import FrameSkipper, samples_together
from mmskip.options import check_least
from mmskip.registry import MODELS, build_own

from .decisions import (
    EarlyExit,
    aggregate,
    decide,
    label_matrix,
    used_frames,
    windows,
)
from .inference import NOT_EXAMINED, StagedNet, VideoInference
from .stages import StageCosts, list_stages, measure_stages

PROBE = 64  # side of the image that tells the channels of the stages


@MODELS.register_module()
class SoFRecognizer(FrameSkipper, Recognizer2D):
    """Classifies videos as TSN does, while frames may stop at a stage.

    Its config is that of mmaction2's TSN with another ``type``, and
    checkpoints of TSN fit. Inputs are (B, T, C, H, W): T frames of each
    video, one view.

    In training all frames run through all stages, and the policies decide
    what counts. In inference what they stop is not computed.

    Args:
        backbone: Config of a backbone that
            :func:`mmskip.sof_net.list_stages` knows.
        cls_head: Config of mmaction2's ``TSNHead``, or of another head that
            takes ``(x, num_segs)``.
        policy: Config of :class:`mmskip.sof_net.StopOrForwardHead`, without
            the number of channels and classes; one is put behind each stage.
            None: every frame that is examined is forwarded.
        early_exit: Keys of :class:`EarlyExit`; None never terminates.
        efficiency_loss: Config of :class:`mmskip.sof_net.EfficiencyLoss`.
        guidance_loss: Config of :class:`mmskip.sof_net.PolicyGuidanceLoss`;
            None: no inner classifiers.
        alpha: Weight of the classification loss against efficiency
            (Eq. 3.8).
        frame_choice: A baseline that chooses frames: config of
            ``mmskip.EveryKthFrame`` or ``mmskip.RandomFrames``.
        lookahead: Number of frames of a video that run together in
            inference. Decisions and scores do not depend on it, but work
            beyond a frame that is used or that ends the video may be for
            nothing (it is counted). 1 computes nothing that is not needed.
        **options: Passed on to mmaction2's ``Recognizer2D``.

    Attributes:
        warming_up: True leaves the policies out: all frames are forwarded,
            and the classification loss is the only one. Set by
            ``mmskip.WarmUpHook``.

    Raises:
        ValueError: An option is out of range, or the backbone cannot be run
            stage by stage.
        TypeError: The backbone is of an unknown kind.
    """

    def __init__(
        self,
        backbone: dict,
        cls_head: dict,
        policy: dict | None = None,
        early_exit: dict | None = None,
        efficiency_loss: dict | None = None,
        guidance_loss: dict | None = None,
        alpha: float = 0.9,
        frame_choice: dict | None = None,
        lookahead: int = 4,
        **options: Any,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f'expected alpha in [0, 1], got {alpha!r}')
        check_least(1, lookahead=lookahead)
        super().__init__(backbone=backbone, cls_head=cls_head, **options)
        if self.with_neck:
            raise ValueError(
                'expected no neck: it would mix the frames; got '
                f'{type(self.neck).__name__}'
            )
        self.alpha = alpha
        self.lookahead = lookahead
        self.early_exit = (
            None if early_exit is None else EarlyExit(**early_exit)
        )
        self.frame_choice = (
            None if frame_choice is None else build_own(frame_choice)
        )
        self.efficiency_loss = build_own(
            efficiency_loss or dict(type='EfficiencyLoss')
        )
        self.guidance_loss = (
            None if guidance_loss is None else build_own(guidance_loss)
        )
        self.warming_up = False
        self._costs: dict[tuple, StageCosts] = {}
        self._forced: list[list[int]] | None = None
        self.policies = self._build_policies(policy)

    def loss(
        self,
        inputs: Tensor,
        data_samples: Sequence[ActionDataSample],
        **options: Any,
    ) -> dict[str, Tensor]:
        """Compute all losses (Eq. 3.8).

        Args:
            inputs: (B, T, C, H, W).
            data_samples: B samples with ``gt_label``.
            **options: Ignored; mmaction2 may pass some.

        Returns:
            ``loss_*`` to be summed; ``used_frames``, the share of frames
            that were forwarded to the end, and accuracies, to be logged.

        Raises:
            ValueError: A label does not fit the number of classes.
        """
        labels = label_matrix(data_samples, self.cls_head.num_classes)
        decides = bool(self.policies) and not self.warming_up
        frames = inputs.shape[1]
        x, embedded = inputs.flatten(0, 1), []
        for place, stage in enumerate(list_stages(self.backbone)):
            x = stage(x)
            if decides:
                embedded.append(self.policies[place].embed(x))
        logits = self.cls_head(x, num_segs=1).unflatten(0, (-1, frames))
        if not decides:
            return self.cls_head.loss_by_feat(logits.mean(1), data_samples)
        decisions = decide(
            self.policies, [e.unflatten(0, (-1, frames)) for e in embedded]
        )
        used = used_frames(decisions.actions)
        losses = self.cls_head.loss_by_feat(
            aggregate(logits, used), data_samples
        )
        for name in losses:
            if 'loss' in name:
                losses[name] = self.alpha * losses[name]
        costs = self.measure(inputs.shape[2:])
        efficiency = self.efficiency_loss(
            decisions.actions, costs.remaining, costs.frame
        )
        losses['loss_efficiency'] = (1 - self.alpha) * efficiency
        if self.guidance_loss is not None:
            losses |= self.guidance_loss(
                decisions.margins,
                decisions.inner_logits,
                labels,
                decisions.actions,
            )
        losses['used_frames'] = used.detach().mean()
        return losses

    @torch.no_grad()
    def predict(
        self,
        inputs: Tensor,
        data_samples: Sequence[ActionDataSample],
        **options: Any,
    ) -> Sequence[ActionDataSample]:
        """Classify videos, examining their frames as far as needed.

        Args:
            inputs: (B, T, C, H, W).
            data_samples: B samples, to be completed.
            **options: Ignored; mmaction2 may pass some.

        Returns:
            The samples, each with ``pred_score``, ``pred_label``,
            ``sof_stops`` (LongTensor (T,): the place where each frame
            stopped; the number of places if it was forwarded to the end; -1
            if it was not examined), ``sof_exit`` (int, how many frames were
            examined) and ``sof_macs`` (int, MACs spent on the video).

        Raises:
            ValueError: ``t_min`` is not below T.
        """
        videos, frames = inputs.shape[:2]
        if self.early_exit is not None:
            self.early_exit.check_length(frames)
        if self.mmskip_ledger is not None:
            self.mmskip_ledger.note_batch(videos * frames)
        chosen = torch.ones(videos, frames, dtype=torch.bool)
        if self.frame_choice is not None:
            chosen = self.frame_choice(frames, data_samples)
        inference = VideoInference(
            self.staged_net(inputs.shape[2:]),
            videos,
            self._check_forced(videos, frames),
        )
        for window in windows(frames, self.lookahead, self.early_exit):
            inference.run(inputs[:, window], chosen[:, window].tolist())
        logits, stops, macs = inference.finish()
        self._record_skipped(inference, videos * frames, videos)
        scores = inference.net.scores(logits)
        for sample, score, places, cost in zip(
            data_samples, scores, stops, macs, strict=True
        ):
            sample.set_pred_score(score)
            sample.set_pred_label(score.argmax().reshape(1))
            sample.sof_stops = torch.tensor(places)
            sample.sof_exit = sum(place != NOT_EXAMINED for place in places)
            sample.sof_macs = cost
        return data_samples

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[ActionDataSample] | None = None,
        mode: str = 'tensor',
        **options: Any,
    ) -> Any:
        """Run in one of mmaction2's modes, or in one more for streams.

        Args:
            inputs: (B, T, C, H, W).
            data_samples: B samples, for ``loss`` and ``predict``.
            mode: ``loss``; ``predict``; ``tensor``, which gives features of
                all layers for all frames; or ``stream``, which takes the next
                frame of one video and the ``inference`` that it belongs to.
            **options: Passed on.
        """
        if mode == 'stream':
            return self._run_next(inputs, **options)
        return super().forward(inputs, data_samples, mode, **options)

    def stream(self) -> 'SoFStream':
        """Open a video whose frames come one by one."""
        return SoFStream(self)

    def measure(self, shape: Sequence[int]) -> StageCosts:
        """Count the MACs of a frame of shape (C, H, W), stage by stage."""
        shape = tuple(shape)
        if shape not in self._costs:
            self._costs[shape] = measure_stages(
                self.backbone, self.cls_head, shape
            )
        return self._costs[shape]

    def staged_net(self, shape: Sequence[int]) -> StagedNet:
        """Bundle the layers and rules for frames of shape (C, H, W)."""
        return StagedNet(
            self.backbone,
            self.cls_head,
            [] if self.warming_up else list(self.policies),
            self.early_exit,
            self.measure(shape),
            self._frames_together(shape),
            'BCE' in type(self.cls_head.loss_cls).__name__,
        )

    @contextmanager
    def force_decisions(
        self, stops: Sequence[Sequence[int]]
    ) -> Iterator[None]:
        """Make frames stop at given places, whatever the policies say.

        Inside the block :meth:`predict` replays decisions, to measure what
        they cost. The policies run all the same, so the time is the real
        one; frames of a window behind the one that ends a video are run to
        the end, for nothing.

        Args:
            stops: For each video of a batch the place where each of its T
                frames stops, as ``sof_stops`` of a prediction; -1 for frames
                that are not examined since the video has ended.

        Raises:
            ValueError: There are no policies, or a place that does not exist,
                or a frame behind the end of a video stops somewhere.
        """
        stops = [list(map(int, row)) for row in stops]
        for row in stops:
            ended = row.index(NOT_EXAMINED) if NOT_EXAMINED in row else None
            if (
                not self.policies
                or ended == 0
                or not all(-1 <= s <= len(self.policies) for s in row)
                or (ended and set(row[ended:]) != {NOT_EXAMINED})
            ):
                raise ValueError(
                    f'expected places from 0 to {len(self.policies)}, the '
                    'number of policies, at least one, and then -1 for '
                    f'frames that are not examined, got {row}'
                )
        before, self._forced = self._forced, stops
        try:
            yield
        finally:
            self._forced = before

    def _check_forced(
        self, videos: int, frames: int
    ) -> list[list[int]] | None:
        """Return the forced places if they are of such a batch.

        Raises:
            ValueError: They are of another one.
        """
        forced = self._forced
        if forced is None or [len(row) for row in forced] == [frames] * videos:
            return forced
        raise ValueError(
            f'expected a batch of {len(forced)} videos of '
            f'{len(forced[0])} frames, whose decisions are forced, got '
            f'{videos} videos of {frames} frames'
        )

    def _frames_together(self, shape: Sequence[int]) -> int:
        """Tell how many frames of shape (C, H, W) run at once."""
        if not next(self.backbone.parameters()).is_cpu:
            return sys.maxsize
        return samples_together(shape)

    def _build_policies(self, policy: dict | None) -> nn.ModuleList:
        """Build one policy per stage, for the stage's channels."""
        stages = list_stages(self.backbone)
        if policy is None:
            return nn.ModuleList()
        guided = self.guidance_loss is not None
        if guided and len(stages) == 1:
            raise ValueError(
                'expected at least 2 stages for policies with guidance, got '
                '1: a policy learns from the one behind it'
            )
        layers = self.backbone.modules()
        stem = next(m for m in layers if isinstance(m, nn.Conv2d))
        costs = self.measure((stem.in_channels, PROBE, PROBE))
        return nn.ModuleList(
            build_own(
                policy,
                in_channels=channels,
                num_classes=self.cls_head.num_classes if guided else 0,
            )
            for channels in costs.channels
        )

    @torch.no_grad()
    def _run_next(self, inputs: Tensor, inference: VideoInference) -> Tensor:
        """Scores (1, K) after one more frame (1, 1, C, H, W) of a stream."""
        if self.mmskip_ledger is not None:
            self.mmskip_ledger.note_batch(1)
        inference.run(inputs)
        scores = inference.net.scores(inference.logits())
        self._record_skipped(inference, 1, int(len(inference.stops) == 1))
        return scores

    def _record_skipped(
        self, inference: VideoInference, frames: int, videos: int
    ) -> None:
        """Tell the ledger what did not run; hooks have told of the rest."""
        rows = inference.runner.take_rows()
        if self.mmskip_ledger is None:
            return
        modules = dict(self.named_modules())
        skipped = inference.net.costs.skipped(frames, videos, rows)
        for name, macs in skipped:
            self.mmskip_ledger.record(modules[name], macs, 0)


class StreamPrediction(NamedTuple):
    """Holds the prediction for a video after its frames so far.

    Attributes:
        scores: Probabilities (K,).
        label: The most probable class.
        terminated: True once the video has terminated early (Eq. 3.7):
            further frames change nothing and cost nothing.
        stop: Place where the last frame stopped, the number of places if it
            was forwarded to the end, -1 if it was not examined.
    """

    scores: Tensor
    label: int
    terminated: bool
    stop: int


class SoFStream:
    """Classifies one video frame by frame.

    :meth:`SoFRecognizer.stream` opens it.

    After t frames the prediction is that of the recognizer for a video of
    those t frames. While every frame so far was stopped, that takes the
    remaining layers of the one that got furthest, which are run once for each
    frame that gets further than those before it.

    Args:
        recognizer: Recognizer in eval mode.

    Raises:
        RuntimeError: The recognizer is in training mode.
    """

    def __init__(self, recognizer: SoFRecognizer) -> None:
        if recognizer.training:
            raise RuntimeError(
                'expected a recognizer in eval mode, got one in training '
                'mode; call its eval()'
            )
        self.recognizer = recognizer
        self._inference: VideoInference | None = None
        self._last: StreamPrediction | None = None

    def predict(self, frame: Tensor) -> StreamPrediction:
        """Take the next frame, and predict the class of the video so far.

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
        if self._last is not None and self._last.terminated:
            return self._last._replace(stop=NOT_EXAMINED)
        data = self.recognizer.data_preprocessor(
            dict(inputs=[frame[None]], data_samples=[ActionDataSample()])
        )
        inputs = data['inputs']
        if self._inference is None:
            net = self.recognizer.staged_net(inputs.shape[2:])
            self._inference = VideoInference(net, videos=1)
        scores = self.recognizer(
            inputs, mode='stream', inference=self._inference
        )
        self._last = StreamPrediction(
            scores[0],
            int(scores[0].argmax()),
            self._inference.done[0],
            self._inference.stops[-1][0],
        )
        return self._last
