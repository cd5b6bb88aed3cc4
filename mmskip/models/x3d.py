"""X3D with fewer Swish activations, as VA-RED^2 uses it."""

from typing import Any

from mmaction.models import X3D
from mmaction.models.backbones.x3d import BlockX3D
from mmcv.cnn import build_activation_layer

from mmskip.registry import MODELS


@MODELS.register_module()
class X3DSwishInSE(X3D):
    """X3D whose blocks with squeeze-and-excitation alone keep their Swish.

    B. Pan's thesis (VA-RED^2), section 4.2: "we remove all the swish
    non-linearity except those in SE layer". A block of X3D has one Swish,
    behind its depthwise convolution; with the squeeze-and-excitation of every
    other block the two form one layer. Where it is removed its place is taken
    by the ReLU of the block's other layers (ours; the thesis does not say
    what, and two linear maps would follow each other without).

    With the M preset (gamma_b 2.25, gamma_d 2.2) and 16 frames of 256x256 it
    does 6.18 GMAC (Table 4.2: 6.20). Weights of an X3D load as they are.

    Args:
        **options: Those of mmaction2's ``X3D``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for module in self.modules():
            if isinstance(module, BlockX3D) and module.se_ratio is None:
                module.swish = build_activation_layer(self.act_cfg)
