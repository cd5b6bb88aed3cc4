"""The head of EfficientDet."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmdet.models.dense_heads import AnchorHead
from mmdet.utils import reduce_mean
from mmengine.model import bias_init_with_prob
from torch import Tensor, nn

from mmskip.options import check_least
from mmskip.registry import MODELS

from .layers import SeparableConv, batch_norm, initialisation


@MODELS.register_module()
class EfficientDetHead(AnchorHead):
    """Two towers of separable convolutions, one for classes, one for boxes.

    All levels share the convolutions; each level has BatchNorms of its own.
    Anchors, targets, losses and predictions are mmdet's. mmdet's
    RetinaSepBNHead is the same idea with full convolutions and ReLU; it
    keeps a name per level for each shared convolution, here there is one.

    Args:
        num_classes: Number of classes without background.
        in_channels: C, channels of all levels and of the towers.
        num_levels: L, number of levels. Defaults to 5.
        stacked_convs: D, convolutions of a tower before the last one.
            Defaults to 3.
        conv_bias: Whether 1x1 convolutions with a BatchNorm behind them have
            a bias. The authors' checkpoints have it. Defaults to True.
        conv_cfg: Config of the convolutions. None means Conv2d. Defaults to
            None.
        norm_cfg: Config of the normalisations. None means BatchNorm with the
            authors' ``eps=1e-3`` and ``momentum=0.01``. Defaults to None.
        init_cfg: Config of the initialisation. None means normal with the
            variance 1 / fan-in. Defaults to None.
        **kwargs: Of mmdet's AnchorHead: ``anchor_generator``,
            ``bbox_coder``, ``loss_cls``, ``loss_bbox``, ``train_cfg``, ...
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_levels: int = 5,
        stacked_convs: int = 3,
        conv_bias: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        check_least(
            1,
            num_classes=num_classes,
            in_channels=in_channels,
            num_levels=num_levels,
        )
        check_least(0, stacked_convs=stacked_convs)
        self.num_levels = num_levels
        self.stacked_convs = stacked_convs
        self.conv_bias = conv_bias
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg or batch_norm()
        super().__init__(
            num_classes,
            in_channels,
            feat_channels=in_channels,
            init_cfg=init_cfg or initialisation(),
            **kwargs,
        )

    def _init_layers(self) -> None:
        """Make the layers; mmdet's constructor calls this."""
        anchors = self.num_base_priors
        self.act = nn.SiLU()
        self.cls_convs, self.cls_norms = self._make_tower()
        self.reg_convs, self.reg_norms = self._make_tower()
        self.retina_cls = SeparableConv(
            self.in_channels,
            anchors * self.cls_out_channels,
            conv_cfg=self.conv_cfg,
        )
        self.retina_reg = SeparableConv(
            self.in_channels,
            anchors * self.bbox_coder.encode_size,
            conv_cfg=self.conv_cfg,
        )

    def _make_tower(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Make D convolutions, and D times L normalisations."""
        channels = self.in_channels
        convs = nn.ModuleList(
            SeparableConv(channels, channels, self.conv_bias, self.conv_cfg)
            for _ in range(self.stacked_convs)
        )
        norms = nn.ModuleList(
            nn.ModuleList(
                build_norm_layer(self.norm_cfg, channels)[1]
                for _ in range(self.num_levels)
            )
            for _ in range(self.stacked_convs)
        )
        return convs, norms

    def init_weights(self) -> None:
        """Initialise; at first, every class has the probability 0.01."""
        super().init_weights()
        with torch.no_grad():
            bias = bias_init_with_prob(0.01)
            self.retina_cls.pointwise.bias.fill_(bias)

    def forward(
        self, feats: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Predict classes and boxes for every anchor.

        Args:
            feats: L levels, ``(N, C, H_l, W_l)``.

        Returns:
            Logits of the classes, ``(N, anchors * classes, H_l, W_l)`` per
            level, and box deltas, ``(N, anchors * 4, H_l, W_l)`` per level.

        Raises:
            ValueError: There are not L levels.
        """
        if len(feats) != self.num_levels:
            raise ValueError(
                f'expected {self.num_levels} levels, got {len(feats)}; set '
                "num_levels to the neck's num_outs"
            )
        logits, deltas = [], []
        for level, x in enumerate(feats):
            classes = boxes = x
            for conv, norms in zip(
                self.cls_convs, self.cls_norms, strict=True
            ):
                classes = self.act(norms[level](conv(classes)))
            for conv, norms in zip(
                self.reg_convs, self.reg_norms, strict=True
            ):
                boxes = self.act(norms[level](conv(boxes)))
            logits.append(self.retina_cls(classes))
            deltas.append(self.retina_reg(boxes))
        return logits, deltas

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple:
        """Targets as of mmdet, with positives counted over all processes.

        mmdet's AnchorHead divides the losses of each process by its own
        count, so that several processes learn something else than one with
        all their images. FCOS and ATSS of mmdet do as is done here.
        """
        targets = super().get_targets(*args, **kwargs)
        count = targets[4]
        mean = reduce_mean(targets[0][0].new_tensor(count, dtype=torch.float))
        return (*targets[:4], max(mean.item(), 1.0), *targets[5:])
