"""A hook of mkdocs: roles of docstrings become plain code.

Docstrings name other objects by roles (``:func:`mmskip.fold```), which
Markdown would show as they are written.
"""

import re
from typing import Any

ROLE = re.compile(r':(?:attr|class|func|meth|mod):(?=<code>)')


def on_page_content(html: str, **_: Any) -> str:
    """Remove the names of roles in front of code."""
    return ROLE.sub('', html)
