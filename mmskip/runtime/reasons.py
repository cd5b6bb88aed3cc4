"""Why modules are as they are, in a few lines."""

from collections import Counter


def list_reasons(what: str, reasons: dict[str, str]) -> list[str]:
    """A line for each reason, with some of the modules that it holds for.

    Args:
        what: That happened to them, e.g. ``left dense``.
        reasons: Of each module, by its name.
    """
    lines = []
    for reason, count in Counter(reasons.values()).most_common():
        names = [name for name, other in reasons.items() if other == reason]
        shown = ', '.join(names[:3]) + (', ...' if count > 3 else '')
        lines.append(f'  {what}, {count} x {reason}: {shown}')
    return lines
