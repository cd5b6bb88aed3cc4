"""What ``fold`` did, and what it left alone."""

from dataclasses import dataclass, field

from .reasons import list_reasons


@dataclass
class FoldReport:
    """The outcome of :func:`mmskip.fold`.

    Attributes:
        norms: Names of the layers that took a batch norm.
        activations: Names of the Skip-Convolutions that took an activation.
        planar: Names of the layers of clips that run as those of images.
        left: Why each other batch norm, and each activation that reads a
            Skip-Convolution, stays.
    """

    norms: list[str] = field(default_factory=list)
    activations: list[str] = field(default_factory=list)
    planar: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        done = (
            f'folded {len(self.norms)} batch norms and '
            f'{len(self.activations)} activations; {len(self.planar)} layers '
            'of clips run as those of images'
        )
        return '\n'.join([done, *list_reasons('left', self.left)])
