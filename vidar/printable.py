"""Text for a terminal: messages contain names of files, and a name may contain anything but a slash and a zero."""

from __future__ import annotations

import re

UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # all but the tab


def printable(text: str) -> str:
    """The text with line ends, control characters and bytes that are no UTF-8 as escapes, such as \\n and \\x1b."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(message: str) -> str:
    """A message as one printable line: line ends and other white space become spaces."""
    return printable(" ".join(message.split()))
