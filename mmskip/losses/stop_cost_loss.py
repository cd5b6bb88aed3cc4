"""The loss that makes policies stop frames."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmskip.registry import MODELS

UNITS = ('gmac', 'share')
GIGA = 1e9


@MODELS.register_module()
class EfficiencyLoss(nn.Module):
    """Expected cost of the layers behind each policy (SoF-Net, Eq. 3.11).

    Args:
        unit: ``gmac``, as in the thesis, or ``share`` of a whole frame, so
            that one weight suits networks of any size (ours).

    Raises:
        ValueError: ``unit`` is neither.
    """

    def __init__(self, unit: str = 'gmac') -> None:
        super().__init__()
        if unit not in UNITS:
            raise ValueError(
                f'expected unit to be one of {UNITS}, got {unit!r}'
            )
        self.unit = unit

    def forward(
        self, actions: Tensor, remaining: Sequence[int], frame_macs: int
    ) -> Tensor:
        """Mean over frames and policies.

        Args:
            actions: ``g`` (B, T, N), 1 where a policy forwarded a frame. A
                frame that stopped reaches no further policy: 0 from there.
            remaining: ``f_lookup`` (Eq. 3.10), MACs of a frame behind each
                of the N places.
            frame_macs: MACs of a whole frame.

        Returns:
            A scalar.
        """
        unit = GIGA if self.unit == 'gmac' else frame_macs
        lookup = actions.new_tensor([macs / unit for macs in remaining])
        return (actions * lookup).mean()

    def extra_repr(self) -> str:
        return f'unit={self.unit!r}'
