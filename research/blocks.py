"""Blocks of a page that a study writes: what stands between ``<!-- STUDY: NAME -->`` and ``<!-- end -->``."""

from __future__ import annotations

import re


def filled(text: str, block: str, content: str) -> str:
    """A page with one of its blocks written anew.

    Args:
        block: study and name, ``attacks: table`` say.

    Raises:
        ValueError: the page has no such block.
    """
    pattern = re.compile(rf"(<!-- {re.escape(block)} -->\n).*?(<!-- end -->)", re.DOTALL)
    written, count = pattern.subn(lambda match: match[1] + content + match[2], text)
    if count != 1:
        raise ValueError(f"the page has {count} blocks {block!r}, and should have one")
    return written
