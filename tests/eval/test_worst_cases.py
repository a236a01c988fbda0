from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from vidar.eval.worst_cases import Case, worst_cases


def test_worst_come_first_with_figure_seed_and_the_frames_of_their_seconds():
    rows = np.random.default_rng(0).integers(0, 256, (4, 2, 11, 6, 8, 3), dtype=np.uint8)
    badness = (0.2, 0.9, 0.5, 0.9)
    cases = [Case(f"p{n}", 30 + n, bad, f"{bad:.0%} lost", list(rows[n])) for n, bad in enumerate(badness)]
    pieces = worst_cases(cases, (0.0, 1.0, 2.0), fps=5.0, count=3)
    assert [re.findall(r"p\d, start \d+: \d+% lost", piece)[0] for piece in pieces] == [
        "p1, start 31: 90% lost",
        "p3, start 33: 90% lost",
        "p2, start 32: 50% lost",
    ]
    for piece, n in zip(pieces, (1, 3, 2)):
        assert re.findall("<span>(.*?)</span>", piece) == ["0 s", "1 s", "2 s"]
        png = base64.b64decode(re.findall("base64,([A-Za-z0-9+/=]+)", piece)[0])
        sheet = np.asarray(Image.open(io.BytesIO(png)))[::2, ::2, :3]
        for column, frame in enumerate((0, 5, 10)):
            for row in range(2):
                got = sheet[row * 8 : row * 8 + 6, column * 10 : column * 10 + 8]
                assert np.array_equal(got, rows[n, row, frame])
