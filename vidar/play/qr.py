"""The address of a server as a QR code in the terminal, for phones (segno, of the extra `serve`)."""

from __future__ import annotations

import io

import vidar
from vidar.types import UsageError


def qr_code(address: str) -> str:
    """Lines of block characters, light on dark. Raises UsageError if segno is not installed."""
    try:
        import segno  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError:
        raise UsageError(f"a QR code needs segno: pip install '{vidar.DISTRIBUTION}[serve]'") from None
    out = io.StringIO()
    segno.make(address, micro=False).terminal(out, border=2, compact=True)
    return out.getvalue().rstrip("\n")
