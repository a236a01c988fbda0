"""A film of real and dreamed episodes side by side with the pressed keys below, in pages of four."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import repeat

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vidar.actions import Action, ActionSpec
from vidar.eval.world_eval import WorldScores

INK, SOFT, PAPER, CARD = (232, 236, 242), (140, 150, 164), (14, 17, 22), (24, 29, 36)
LIT, DARK, DREAM = (240, 180, 40), (52, 60, 71), (88, 166, 255)
GAP = 6  # pixels between the two images
PAD = 12  # pixels around a card
TOP, CAP = 24, 26  # pixels of the label line and of a key cap
COLUMNS, ROWS = 2, 2  # cards per page
ARROWS = {  # corners of the arrow in a cap of side 1
    "ArrowLeft": ((0.26, 0.5), (0.68, 0.24), (0.68, 0.76)),
    "ArrowRight": ((0.74, 0.5), (0.32, 0.24), (0.32, 0.76)),
    "ArrowUp": ((0.5, 0.26), (0.24, 0.68), (0.76, 0.68)),
    "ArrowDown": ((0.5, 0.74), (0.24, 0.32), (0.76, 0.32)),
}


def film(
    scores: WorldScores,
    spec: ActionSpec,
    fps: float,
    scale: int = 4,
    hold: float = 0.6,
    episodes: int | None = None,
) -> Iterator[np.ndarray]:
    """Frames uint8 [H', W', 3]: real | dreamed, 2 x 2 episodes per page, whose last frame stays for `hold` seconds.

    episodes: the number of episodes, from the first on; None: all.
    """
    count, frames = scores.real.shape[:2]
    count = min(count, episodes or count)
    for start in range(0, count, COLUMNS * ROWS):
        shown = range(start, min(start + COLUMNS * ROWS, count))
        for k in range(frames):
            sheet = _page(scores, spec, fps, scale, shown, k)
            yield from repeat(sheet, 1 if k < frames - 1 else 1 + round(hold * fps))


def _page(scores: WorldScores, spec: ActionSpec, fps: float, scale: int, shown: Sequence[int], k: int) -> np.ndarray:
    height, width = (side * scale for side in scores.real.shape[2:4])
    card_w, card_h = 2 * width + GAP + 2 * PAD, height + TOP + CAP + 3 * PAD
    columns, rows = min(COLUMNS, len(scores.names)), min(ROWS, -(-len(scores.names) // COLUMNS))
    size = (columns * (card_w + PAD) + PAD, rows * (card_h + PAD) + PAD)
    sheet = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), PAPER)
    for place, e in enumerate(shown):
        left, top = PAD + place % COLUMNS * (card_w + PAD), PAD + place // COLUMNS * (card_h + PAD)
        card = _card(scores, e, k, (card_w, card_h), (width, height))
        _caps(ImageDraw.Draw(card), spec, scores.actions[e, k], card_h - PAD - CAP)
        text = f"{(k + 1) / fps:.1f} s   {scores.psnr['model'][e, k]:.1f} dB"
        ImageDraw.Draw(card).text((card_w - PAD, card_h - PAD - CAP / 2), text, SOFT, font(15), anchor="rm")
        sheet.paste(card, (left, top))
    return np.asarray(sheet)


def _card(scores: WorldScores, e: int, k: int, size: tuple[int, int], picture: tuple[int, int]) -> Image.Image:
    card = Image.new("RGB", size, CARD)
    draw = ImageDraw.Draw(card)
    dreamed_at = PAD + picture[0] + GAP
    draw.text((PAD, PAD / 2 + TOP / 2), "real", INK, font(16), anchor="lm")
    draw.text((dreamed_at, PAD / 2 + TOP / 2), "dreamed", DREAM, font(16), anchor="lm")
    draw.text((size[0] - PAD, PAD / 2 + TOP / 2), scores.names[e], SOFT, font(13), anchor="rm")
    for left, video in ((PAD, scores.real), (dreamed_at, scores.dreamed)):
        large = Image.fromarray(video[e, k]).resize(picture, Image.Resampling.NEAREST)
        card.paste(large, (left, PAD // 2 + TOP + 2))
    return card


def _caps(draw: ImageDraw.ImageDraw, spec: ActionSpec, row: np.ndarray, top: int) -> None:
    """One key cap per action, lit while the action is not at rest."""
    left = PAD
    for action, value in zip(spec.actions, row, strict=True):
        lit = value != action.noop
        text = _label(action, float(value))
        wide = CAP if text in ARROWS else max(CAP, int(font(14).getlength(text)) + 12)
        draw.rounded_rectangle((left, top, left + wide, top + CAP), 5, fill=LIT if lit else DARK)
        ink = PAPER if lit else SOFT
        if text in ARROWS:
            draw.polygon([(left + x * CAP, top + y * CAP) for x, y in ARROWS[text]], fill=ink)
        else:
            draw.text((left + wide / 2, top + CAP / 2), text, ink, font(14), anchor="mm")
        left += wide + GAP


def _label(action: Action, value: float) -> str:
    """The key of an action, or its name; for actions other than keys, also the value."""
    if action.kind == "binary":
        key = action.keys[0] if action.keys else action.name.lower()
        return "space" if key == " " else key
    return f"{action.name.lower()} " + (f"{value:+.1f}" if action.kind == "continuous" else f"{value:.0f}")


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)
