"""What a conversion did, and what it left alone."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ConversionReport:
    """The outcome of :func:`mmskip.convert`.

    Attributes:
        conversion: Name of the conversion.
        converted: Names of the converted layers.
        left_dense: Why each other layer that multiplies was left as it is.
        on_reference: Why a converted layer will not run on the native
            backend, though that is the active one.
    """

    conversion: str
    converted: list[str] = field(default_factory=list)
    left_dense: dict[str, str] = field(default_factory=dict)
    on_reference: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        total = len(self.converted) + len(self.left_dense)
        done = f'converted {len(self.converted)} of {total} layers'
        lines = [f'{self.conversion}: {done}']
        lines += _group('left dense', self.left_dense)
        lines += _group('not native, no time saved', self.on_reference)
        return '\n'.join(lines)


def _group(what: str, layers: dict[str, str]) -> list[str]:
    """A line for each reason, with some of the layers that it holds for."""
    lines = []
    for reason, count in Counter(layers.values()).most_common():
        names = [name for name, other in layers.items() if other == reason]
        shown = ', '.join(names[:3]) + (', ...' if count > 3 else '')
        lines.append(f'  {what}, {count} x {reason}: {shown}')
    return lines
