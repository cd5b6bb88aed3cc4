"""What neck and head of EfficientDet are made of."""

from mmcv.cnn import build_conv_layer
from torch import Tensor, nn


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
    """The normalisation that EfficientDet's authors use."""
    return dict(type='BN', eps=1e-3, momentum=0.01)


def initialisation() -> dict:
    """Normal, with the variance 1 / fan-in."""
    return dict(
        type='Kaiming',
        layer='Conv2d',
        mode='fan_in',
        nonlinearity='linear',
        distribution='normal',
    )
