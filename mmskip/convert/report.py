"""What a conversion did, and what it left alone."""

from dataclasses import dataclass, field

from mmskip.runtime import list_reasons


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
        lines += list_reasons('left dense', self.left_dense)
        lines += list_reasons('not native, no time saved', self.on_reference)
        return '\n'.join(lines)
