"""EfficientDet's neck and head, for mmdet's EfficientNet and RetinaNet.

M. Tan, R. Pang, Q. V. Le: "EfficientDet: Scalable and Efficient Object
Detection", CVPR 2020. ``configs/_base_/models/efficientdet_d0.py`` puts a
detector together.

Symbols: L levels, level 0 the finest, each half as large as the one before;
``C`` channels of all levels, ``C_l`` channels of what the backbone gives for
level l, ``H_l, W_l`` its size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models.dense_heads import AnchorHead
from mmdet.utils import reduce_mean
from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn
from torch.nn import functional as F

from mmskip.options import check_least
from mmskip.registry import MODELS


class SeparableConv(nn.Module):
    """A 3x3 depthwise convolution followed by a 1x1 convolution.

    Nothing stands between the two and nothing behind them.

    Args:
        in_channels: C_in, channels of the input.
        out_channels: C_out, channels of the output.
        bias: Whether the 1x1 convolution has a bias. Defaults to True.
        conv_cfg: Config of the convolutions. None means Conv2d. Defaults to
            None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        conv_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = build_conv_layer(
            conv_cfg,
            in_channels,
            in_channels,
            3,
            padding=1,
            groups=in_channels,
            bias=False,
        )
        self.pointwise = build_conv_layer(
            conv_cfg, in_channels, out_channels, 1, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: Features of shape ``(N, C_in, H, W)``.

        Returns:
            Features of shape ``(N, C_out, H, W)``.
        """
        return self.pointwise(self.depthwise(x))


def batch_norm() -> dict:
    """Return the normalisation that EfficientDet's authors use."""
    return dict(type='BN', eps=1e-3, momentum=0.01)


def initialisation() -> dict:
    """Return a normal initialisation with the variance 1 / fan-in."""
    return dict(
        type='Kaiming',
        layer='Conv2d',
        mode='fan_in',
        nonlinearity='linear',
        distribution='normal',
    )


class FusionNode(nn.Module):
    """Fuses feature maps of one size and convolves the result.

    Fast normalised fusion (EfficientDet, Section 3.3)::

        O = sum_i w_i I_i / (eps + sum_j w_j),  w_i = relu(v_i)

    with learned v, then SiLU, a separable convolution and BatchNorm.

    Args:
        num_inputs: Number of feature maps to fuse.
        channels: C, channels of the feature maps once fused.
        lateral_channels: Channels of the first of them; if they are not C a
            1x1 convolution with BatchNorm makes them so.
        conv_bias: Whether 1x1 convolutions have a bias, although a BatchNorm
            follows.
        conv_cfg: Config of the convolutions.
        norm_cfg: Config of the normalisations.
        eps: See the formula. Defaults to 1e-4, the paper's.
    """

    def __init__(
        self,
        num_inputs: int,
        channels: int,
        lateral_channels: int,
        conv_bias: bool,
        conv_cfg: dict | None,
        norm_cfg: dict,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.num_inputs = num_inputs
        self.lateral = _project(
            lateral_channels, channels, conv_bias, conv_cfg, norm_cfg
        )
        self.fusion_weights = nn.Parameter(torch.ones(num_inputs))
        self.act = nn.SiLU()
        self.conv = SeparableConv(channels, channels, conv_bias, conv_cfg)
        self.bn = build_norm_layer(norm_cfg, channels)[1]

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Average with the learned weights.

        Args:
            features: One per weight, ``(N, C, H, W)`` each.

        Returns:
            The fused features, ``(N, C, H, W)``.
        """
        weights = F.relu(self.fusion_weights)
        weights = weights / (weights.sum() + self.eps)
        return sum(weights[i] * features[i] for i in range(self.num_inputs))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse and convolve.

        Args:
            features: One per weight; the first, which comes from the level
                before this layer, is ``(N, lateral_channels, H, W)``, the
                others are ``(N, C, H, W)``.

        Returns:
            Features of shape ``(N, C, H, W)``.
        """
        others = [features[i] for i in range(1, self.num_inputs)]
        fused = self.fuse([self.lateral(features[0]), *others])
        return self.bn(self.conv(self.act(fused)))


class BiFPNLayer(nn.Module):
    """Once down the pyramid and once up again.

    On the way down, level l takes its input and what level l + 1 has become.
    On the way up, it takes its input, what it became on the way down and
    what level l - 1 has become. The coarsest level has no way down, the
    finest no way up.

    Args:
        in_channels: Channels of the L inputs.
        channels: C, channels of the L outputs.
        conv_bias: See :class:`FusionNode`.
        conv_cfg: Config of the convolutions.
        norm_cfg: Config of the normalisations.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        conv_bias: bool,
        conv_cfg: dict | None,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        last = len(in_channels) - 1

        def node(num_inputs: int, level: int) -> FusionNode:
            return FusionNode(
                num_inputs,
                channels,
                in_channels[level],
                conv_bias,
                conv_cfg,
                norm_cfg,
            )

        self.down = nn.ModuleList(node(2, level) for level in range(last))
        self.up = nn.ModuleList(
            node(3 if level < last else 2, level)
            for level in range(1, last + 1)
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Exchange features between the levels.

        Args:
            inputs: One per level, ``(N, in_channels[l], H_l, W_l)``, finest
                first.

        Returns:
            One per level, ``(N, C, H_l, W_l)``.
        """
        downward = list(inputs)
        for level in reversed(range(len(self.down))):
            size = inputs[level].shape[-2:]
            coarser = F.interpolate(downward[level + 1], size=size)
            downward[level] = self.down[level]([inputs[level], coarser])
        outputs = downward[:1]
        for level, node in enumerate(self.up, start=1):
            features = [inputs[level], downward[level]]
            if level == len(self.up):
                features = features[:1]
            outputs.append(node([*features, halve(outputs[-1])]))
        return outputs


@MODELS.register_module()
class BiFPN(BaseModule):
    """Neck of EfficientDet: a pyramid of L levels, fused over and over.

    Levels that the backbone does not give are made by max-pooling the
    coarsest one, after a 1x1 convolution with BatchNorm. Any image size will
    do: sizes are halved rounding up, and upsampling (nearest) aims at the
    size of the finer level.

    Args:
        in_channels: Channels of the backbone's outputs, finest first, each
            half as large as the one before.
        out_channels: C, channels of all levels.
        num_repeats: Number of :class:`BiFPNLayer`.
        num_outs: L, number of levels. Defaults to 5.
        conv_bias: Whether the 1x1 convolutions have a bias, which the
            BatchNorm behind them makes redundant. The authors' checkpoints
            have it. Defaults to True.
        conv_cfg: Config of the convolutions. None means Conv2d. Defaults to
            None.
        norm_cfg: Config of the normalisations. None means BatchNorm with the
            authors' ``eps=1e-3`` and ``momentum=0.01``. Defaults to None.
        init_cfg: Config of the initialisation. None means normal with the
            variance 1 / fan-in. Defaults to None.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_repeats: int,
        num_outs: int = 5,
        conv_bias: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if num_outs < max(len(in_channels), 2):
            raise ValueError(
                f'expected num_outs of at least {max(len(in_channels), 2)} '
                f'for {len(in_channels)} in_channels, got {num_outs}; let '
                'the backbone give fewer levels'
            )
        check_least(1, num_repeats=num_repeats, out_channels=out_channels)
        super().__init__(init_cfg or initialisation())
        norm_cfg = norm_cfg or batch_norm()
        self.num_ins = len(in_channels)
        self.num_outs = num_outs
        self.extra = nn.ModuleList()
        channels = list(in_channels)
        for _ in range(num_outs - len(in_channels)):
            self.extra.append(
                _project(
                    channels[-1], out_channels, conv_bias, conv_cfg, norm_cfg
                )
            )
            channels.append(out_channels)
        self.layers = nn.ModuleList()
        for _ in range(num_repeats):
            self.layers.append(
                BiFPNLayer(
                    channels, out_channels, conv_bias, conv_cfg, norm_cfg
                )
            )
            channels = [out_channels] * num_outs

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: The backbone's outputs, ``(N, C_l, H_l, W_l)``.

        Returns:
            L levels, ``(N, C, H_l, W_l)``, finest first.

        Raises:
            ValueError: The number of inputs is not that of ``in_channels``.
        """
        if len(inputs) != self.num_ins:
            raise ValueError(
                f'expected {self.num_ins} feature maps, one per entry of '
                f"in_channels, got {len(inputs)}; see the backbone's "
                'out_indices'
            )
        levels = list(inputs)
        for project in self.extra:
            levels.append(halve(project(levels[-1])))
        for layer in self.layers:
            levels = layer(levels)
        return tuple(levels)


def halve(x: Tensor) -> Tensor:
    """Max-pool 3x3 with stride 2, padded as TensorFlow's 'SAME' does.

    Args:
        x: Features of shape ``(N, C, H, W)``.

    Returns:
        Features of shape ``(N, C, ceil(H / 2), ceil(W / 2))``.
    """
    # An odd size has a border on both sides, an even one on the far side only,
    # where the last window just ends later.
    padding = [x.shape[-2] % 2, x.shape[-1] % 2]
    if torch.jit.is_tracing():  # for an exporter, which takes constants
        padding = [int(size) for size in padding]
    return F.max_pool2d(x, 3, stride=2, padding=padding, ceil_mode=True)


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
        **kwargs: For mmdet's AnchorHead: ``anchor_generator``,
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
        """Find mmdet's targets, with positives counted over all processes.

        mmdet's AnchorHead divides the losses of each process by its own
        count, so that several processes learn something else than one with
        all their images. FCOS and ATSS of mmdet do as is done here.
        """
        targets = super().get_targets(*args, **kwargs)
        count = targets[4]
        mean = reduce_mean(targets[0][0].new_tensor(count, dtype=torch.float))
        return (*targets[:4], max(mean.item(), 1.0), *targets[5:])


def _project(
    in_channels: int,
    out_channels: int,
    bias: bool,
    conv_cfg: dict | None,
    norm_cfg: dict,
) -> nn.Module:
    """Make a 1x1 convolution with BatchNorm if channels have to change."""
    if in_channels == out_channels:
        return nn.Identity()
    module = nn.Sequential()
    module.conv = build_conv_layer(
        conv_cfg, in_channels, out_channels, 1, bias=bias
    )
    module.bn = build_norm_layer(norm_cfg, out_channels)[1]
    return module
