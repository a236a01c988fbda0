"""The page of a blind test: pairs of clips in one video each, in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidar.data.video import encode_video

KEY, PAGE = "key.json", "blind.html"
VERSION = 1
TEMPLATE = Path(__file__).with_name("blind.html")
BACK = (11, 14, 19)  # the background of the page
GAP = 16  # pixels between both pictures, one block of the codec
CRF = 18  # about 41 dB at fourfold size
SIDE, MOST = 256, 4  # small pictures are enlarged up to this height and factor, so that the codec keeps their colours


@dataclass(frozen=True)
class Pair:
    """One trial: its id, and mp4s of the pair and of the start, which is shown before if there is one."""

    id: str
    pair: bytes
    start: bytes | None = None


def pair_video(left: np.ndarray, right: np.ndarray, fps: float) -> bytes:
    """Two clips uint8 [T, H, W, 3] side by side as one mp4.

    Choice: one video for both sides, so that codec, size and length are the same, and both start at once.
    """
    if left.shape != right.shape:
        raise ValueError(f"clips of {left.shape} and {right.shape} cannot be a pair")
    sides = _large(left), _large(right)
    gap = np.empty((*sides[0].shape[:2], GAP, 3), np.uint8)
    gap[:] = BACK
    return _encoded(np.concatenate([sides[0], gap, sides[1]], 2), fps)


def start_video(start: np.ndarray, fps: float) -> bytes:
    """The start, uint8 [T, H, W, 3], in the middle of a picture of the size of a pair."""
    large = _large(start)
    count, height, width = large.shape[:3]
    sheet = np.empty((count, height, 2 * width + GAP, 3), np.uint8)
    sheet[:] = BACK
    left = (width + GAP) // 2
    sheet[:, :, left : left + width] = large
    return _encoded(sheet, fps)


def blind_page(kind: str, pairs: Sequence[Pair]) -> tuple[str, str]:
    """The HTML page and its id. kind: real (the game against a dream) or models (two dreams)."""
    identity = hashlib.sha256(b"".join(part for p in pairs for part in (p.id.encode(), p.pair, p.start or b"")))
    name = identity.hexdigest()[:16]
    trials = [{"id": p.id, "pair": _uri(p.pair), "start": None if p.start is None else _uri(p.start)} for p in pairs]
    content = json.dumps({"id": name, "kind": kind, "trials": trials}).replace("</", "<\\/")
    return TEMPLATE.read_text().replace("{{page}}", content), name


def _large(frames: np.ndarray) -> np.ndarray:
    scale = max(1, min(MOST, SIDE // frames.shape[1]))
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def _encoded(frames: np.ndarray, fps: float) -> bytes:
    return encode_video(frames, fps, crf=CRF, gop=len(frames), name="clip")


def _uri(mp4: bytes) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(mp4).decode()}"
