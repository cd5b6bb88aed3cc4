"""YOWO on any of mmaction2's 3D backbones.

Koepueklue et al., You Only Watch Once (YOWO), 2019, Section 3.1.3, Fig. 3.
"""

from contextlib import nullcontext
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models.detectors import SingleStageDetector
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmskip.core import CountedWhole
from mmskip.options import check_least
from mmskip.registry import MODELS

KEYS = ('last', 'middle')


class ChannelAttention(CountedWhole):
    """Mixes channels by their Gram matrix, Eqs. 1 to 4.

    As in the authors' code, the softmax of a row is that of its greatest
    entry minus the entries, so that a channel looks at those unlike itself;
    the paper prints the softmax of the entries, of which the diagonal would
    take nearly all. Alpha is learned and begins at 0: at first nothing is
    mixed. Its two matrix products are counted, 2 C^2 H W MACs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Mix the channels.

        Args:
            features: Shape ``(B, C, H, W)``.

        Returns:
            Of the same shape.
        """
        flat = features.flatten(2)
        gram = flat @ flat.transpose(1, 2)
        mixed = (-gram).softmax(-1) @ flat  # the greatest entry cancels out
        if self._ledger is not None:
            macs = 2 * gram.numel() * flat.shape[2]
            self._ledger.record(self, macs, macs)
        return features + self.alpha * mixed.view_as(features)


@MODELS.register_module()
class ChannelFusion(BaseModule):
    """YOWO's CFAM, up to its last convolution but one.

    Features of the key frame and of the clip are concatenated, two
    convolutions bring them to ``channels``, and the channels attend to each
    other. The paper's two convolutions behind that are those of mmdet's
    ``YOLOV3Head``.

    Args:
        in_channels: Channels of the key frame's and of the clip's features.
        channels: Channels of the result; the paper has 1024.
        norm_cfg: Normalisation. Defaults to batch normalisation.
        init_cfg: Initialisation, see mmengine's ``BaseModule``.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        channels: int = 1024,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        check_least(1, channels=channels)
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='BN')
        self.reduce = ConvModule(
            sum(in_channels), channels, 1, norm_cfg=norm_cfg
        )
        self.smooth = ConvModule(
            channels, channels, 3, padding=1, norm_cfg=norm_cfg
        )
        self.attention = ChannelAttention()

    def forward(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        """Fuse.

        Args:
            features: Those of the key frame and of the clip, ``(B, C, H, W)``
                each.

        Returns:
            One level, shape ``(B, channels, H, W)``.
        """
        fused = self.reduce(torch.cat(features, dim=1))
        return (self.attention(self.smooth(fused)),)


@MODELS.register_module()
class YOWO(SingleStageDetector):
    """Detects who does what in the key frame of a clip.

    Koepueklue et al., You Only Watch Once, 2019: features of the key frame
    (2D branch) and of the clip (3D branch) are fused, and a single-stage
    head of YOLO finds boxes and actions. It is mmdet's
    ``SingleStageDetector`` whose inputs are clips; the neck is
    ``mmskip.ChannelFusion``, the head mmdet's ``YOLOV3Head`` with one level.

    VA-RED^2 (Section 4.3) "replaces the 2D branch with the 3D backbone". We
    read it so: one 3D backbone serves both branches, its features at the
    time of the key frame stand for the 2D branch, their mean over time for
    the 3D branch. So read, it costs 5.81 GMAC on X3D-M and 43.5 on I3D for
    16 frames of 224x224; Table 4.9 says 5.75 and 43.9. With
    ``key_backbone`` there is a 2D branch of its own, as in YOWO.

    Args:
        backbone: A 3D backbone of mmaction2; of several levels the last is
            used.
        neck: Fuses ``(key frame, clip)``, see above.
        bbox_head: A dense head of mmdet with one level.
        key_backbone: A 2D backbone for the key frame alone. None: see
            above. Its stride must be that of ``backbone``.
        key: Where the key frame lies in a clip: ``last``, as in YOWO, or
            ``middle`` (frame T // 2). The data's clips must agree.
        freeze_backbone: Leave ``backbone`` and its batch statistics as they
            are, as YOWO and VA-RED^2 do on J-HMDB.
        **options: Further ones of ``SingleStageDetector``.

    Raises:
        ValueError: There is no such ``key``.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        key_backbone: dict | None = None,
        key: str = 'last',
        freeze_backbone: bool = False,
        **options: Any,
    ) -> None:
        if key not in KEYS:
            raise ValueError(f'expected key to be one of {KEYS}, got {key!r}')
        super().__init__(backbone, neck, bbox_head, **options)
        self.key_backbone = key_backbone and MODELS.build(key_backbone)
        self.key = key
        self.freeze_backbone = freeze_backbone
        self.train()

    def train(self, mode: bool = True) -> 'YOWO':
        super().train(mode)
        if self.freeze_backbone:
            # Here, so that gates of a later conversion are frozen, too.
            self.backbone.eval()  # of mmaction2's some return None
            self.backbone.requires_grad_(False)
        return self

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor]:
        """Fuse features of key frame and clip.

        Args:
            batch_inputs: Clips, shape ``(B, C, T, H, W)``.

        Returns:
            One level, shape ``(B, C', H / stride, W / stride)``.

        Raises:
            ValueError: The inputs are no clips, or the features of a
                backbone have no time or another size.
        """
        if batch_inputs.dim() != 5:
            raise ValueError(
                'expected clips of shape (B, C, T, H, W), got '
                f'{tuple(batch_inputs.shape)}; end the pipeline with '
                "FormatShape(input_format='NCTHW', collapse=True)"
            )
        frozen = torch.no_grad() if self.freeze_backbone else nullcontext()
        with frozen:
            features = _last_level(self.backbone(batch_inputs))
        if features.dim() != 5:
            raise ValueError(
                'expected features of shape (B, C, T, H, W) from the '
                f'backbone, got {tuple(features.shape)}; use a 3D backbone'
            )
        if self.key_backbone is None:
            frame = self._key_of(features)
        else:
            image = self._key_of(batch_inputs)
            frame = _last_level(self.key_backbone(image))
        clip = features.mean(2)
        if frame.shape[2:] != clip.shape[2:]:
            raise ValueError(
                'expected backbones of one stride, got features of '
                f'{tuple(frame.shape[2:])} for the key frame and '
                f'{tuple(clip.shape[2:])} for the clip'
            )
        return self.neck((frame, clip))

    def _key_of(self, clips: Tensor) -> Tensor:
        """Pick the key frame of clips, (B, C, T, H, W) to (B, C, H, W)."""
        length = clips.shape[2]
        return clips[:, :, -1 if self.key == 'last' else length // 2]


def _last_level(features: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the last level of a backbone with one or several."""
    return features if isinstance(features, Tensor) else features[-1]
