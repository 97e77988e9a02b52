"""A hook of MkDocs: formulas as MathML, which browsers draw without a script."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

# Of pages, as `pymdownx.arithmatex` leaves them; and of docstrings, where Sphinx's role is used.
BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>|:math:<code>(.*?)</code>', re.DOTALL)


def on_page_content(content: str, **kwargs: Any) -> str:
    """Replace LaTeX in a page.

    >>> on_page_content(":math:<code>x</code>")
    '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><mi>x</mi></mrow></math>'
    """
    content = BLOCK.sub(lambda found: convert(html.unescape(found[1]), display="block"), content)
    return INLINE.sub(lambda found: convert(html.unescape(found[1] or found[2])), content)
