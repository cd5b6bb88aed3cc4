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
    """

    conversion: str
    converted: list[str] = field(default_factory=list)
    left_dense: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        total = len(self.converted) + len(self.left_dense)
        done = f'converted {len(self.converted)} of {total} layers'
        lines = [f'{self.conversion}: {done}']
        for reason, count in Counter(self.left_dense.values()).most_common():
            names = [n for n, r in self.left_dense.items() if r == reason]
            shown = ', '.join(names[:3]) + (', ...' if count > 3 else '')
            lines.append(f'  left dense, {count} x {reason}: {shown}')
        return '\n'.join(lines)
