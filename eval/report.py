"""Reports: one HTML file that needs nothing else, from tables, plots, pictures and videos. Light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from vidar.eval.plots import Plot

TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Section:
    """A heading, one sentence or two of plain text on how to read what follows, and pieces of HTML."""

    title: str
    note: str
    pieces: Sequence[str]


def page(title: str, lead: str, cards: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole file. cards: (number, what it is), shown large at the top."""
    tiles = "\n".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in cards)
    bodies = "\n".join(
        f"<section><h2>{escape(s.title)}</h2>\n<p>{escape(s.note)}</p>\n" + "\n".join(s.pieces) + "</section>"
        for s in sections
    )
    return Template(TEMPLATE.read_text()).substitute(
        title=escape(title), lead=escape(lead), cards=tiles, sections=bodies
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text; the first column names the row, the others are numbers."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = [
        f"<tr><th>{escape(row[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    ]
    body = "\n".join(lines)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def plot(picture: Plot, caption: str) -> str:
    """A plot that follows the colours of the page."""
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{_uri("image/png", picture.dark)}">'
        f'<img src="{_uri("image/png", picture.light)}" alt="{escape(caption)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def image(png: bytes, caption: str) -> str:
    """A picture over the whole width."""
    return (
        f'<figure class="wide"><img src="{_uri("image/png", png)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def video(mp4: bytes, caption: str) -> str:
    """A video that is part of the page."""
    return (
        f'<figure class="wide"><video src="{_uri("video/mp4", mp4)}" controls loop muted autoplay playsinline></video>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
