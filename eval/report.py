"""Reports: one self-contained HTML file from tables, plots, images and videos, with a light and a dark theme."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple

from vidar.eval.plots import Plot

TEMPLATE = Path(__file__).with_name("report.html")
COLUMN = 72  # pixels, the least width of a picture in a strip
Mood = Literal["", "good", "bad", "open"]


class Card(NamedTuple):
    """A large number at the top of a page with a caption, a line of detail, and whether it is good."""

    value: str
    label: str
    detail: str = ""
    mood: Mood = ""


@dataclass(frozen=True)
class Section:
    """A heading, one or two sentences of plain text on how to read what follows, and pieces of HTML."""

    title: str
    note: str
    pieces: Sequence[str]


@dataclass(frozen=True)
class Bar:
    """A share in [0, 1] and the colour of its bar; None: not measured."""

    name: str
    share: float | None
    tone: int


def page(
    title: str, lead: str, cards: Sequence[Card | tuple[str, str]], sections: Sequence[Section], kicker: str = ""
) -> str:
    """The whole file. cards: `Card`, or (number, caption); kicker: a small line above the title."""
    links = "\n".join(f'<a href="#{anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    bodies = "\n".join(
        f'<section id="{anchor(s.title)}"><h2>{escape(s.title)}</h2>\n<p>{escape(s.note)}</p>\n'
        + "\n".join(s.pieces)
        + "</section>"
        for s in sections
    )
    return Template(TEMPLATE.read_text()).substitute(
        title=escape(title),
        kicker=escape(kicker),
        lead=escape(lead),
        cards="\n".join(_card(card if isinstance(card, Card) else Card(*card)) for card in cards),
        links=links,
        sections=bodies,
    )


def anchor(title: str) -> str:
    """The id of a section inside the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], moods: Sequence[Mood] = ()) -> str:
    """A table of text; the first column names the row, the others are numbers. moods: of each row's second cell."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    colours = [f'<td class="{mood}">' if mood else "<td>" for mood in moods] or ["<td>"] * len(rows)
    lines = []
    for row, second in zip(rows, colours, strict=True):
        starts = [second, *["<td>"] * len(row)]
        inner = "".join(f"{start}{escape(cell)}</td>" for start, cell in zip(starts, row[1:]))
        lines.append(f"<tr><th>{escape(row[0])}</th>{inner}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide scroll"><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def facts(rows: Mapping[str, str]) -> str:
    """A list of names and their values."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
    return f'<dl class="wide">{lines}</dl>'


def code(text: str) -> str:
    """Text to be typed, shown verbatim."""
    return f'<pre class="wide">{escape(text)}</pre>'


def folded(title: str, piece: str) -> str:
    """A piece that opens when its title is clicked."""
    return f'<details class="wide"><summary>{escape(title)}</summary>{piece}</details>'


def bars(rows: Mapping[str, Sequence[Bar]], marks: Mapping[str, float], mark: str) -> str:
    """The bars of each row, one below the other; marks: a tick on all bars of a row; mark: the meaning of the tick."""
    shown = "".join(_bars(name, row, marks.get(name)) for name, row in rows.items())
    first = next(iter(rows.values()))
    keys = "".join(f'<span class="t{bar.tone}"><i></i>{escape(bar.name)}</span>' for bar in first)
    legend = f'<div class="legend">{keys}<span class="tick"><i></i>{escape(mark)}</span></div>'
    return f'<div class="wide">{legend}<div class="bars">{shown}</div></div>'


def plot(picture: Plot, caption: str) -> str:
    """A plot that follows the colours of the page."""
    keys = "".join(
        f'<span class="t{tone}{" dashed" if dashed else ""}"><i></i>{escape(name)}</span>'
        for name, tone, dashed in picture.legend
    )
    legend = f'<div class="legend">{keys}</div>' if keys else ""
    return f"<figure><figcaption><b>{escape(caption)}</b></figcaption>{legend}{picture.svg}</figure>"


def image(png: bytes, caption: str, columns: Sequence[str] = ()) -> str:
    """An image over the whole width; columns: captions above its equally wide columns, which a narrow page scrolls."""
    heads = "".join(f"<span>{escape(text)}</span>" for text in columns)
    top = f'<div class="heads">{heads}</div>' if heads else ""
    shown = f'{top}<img src="{_uri("image/png", png)}" alt="{escape(caption)}">'
    if columns:
        shown = f'<div class="scroll"><div style="min-width:{COLUMN * len(columns)}px">{shown}</div></div>'
    return f'<figure class="wide"><figcaption>{escape(caption)}</figcaption>{shown}</figure>'


def video(mp4: bytes, caption: str) -> str:
    """A video embedded in the page."""
    return (
        f'<figure class="wide"><video src="{_uri("video/mp4", mp4)}" controls loop muted autoplay playsinline></video>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _card(card: Card) -> str:
    mood = f' class="{card.mood}"' if card.mood else ""
    detail = f"<small>{escape(card.detail)}</small>" if card.detail else ""
    return f"<div{mood}><b>{escape(card.value)}</b><span>{escape(card.label)}</span>{detail}</div>"


def _bars(name: str, row: Sequence[Bar], at: float | None) -> str:
    lines = []
    for bar in row:
        share = 0.0 if bar.share is None else min(max(bar.share, 0.0), 1.0)
        told = "-" if bar.share is None else f"{bar.share:.3f}"
        tick = "" if at is None else f'<u style="left:{100 * at:.1f}%"></u>'
        fill = f'<i style="width:{100 * share:.1f}%"></i>'
        title = f"{escape(name)}, {escape(bar.name)}: {told}"
        lines.append(f'<div class="bar t{bar.tone}" title="{title}"><s>{fill}{tick}</s><em>{told}</em></div>')
    return f"<b>{escape(name)}</b><div>{''.join(lines)}</div>"


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
