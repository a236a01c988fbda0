"""Schedules of scales: the published ones, aspects."""

from vidar.tokenizers.schedules import INFINITY_SIDES, VAR_SIDES, aspect, square, still


def test_schedules():
    tokens = {px: sum(s * s for s in sides) for px, sides in VAR_SIDES.items()}
    assert tokens[256] == 680 and tokens[512] == 2240 and len(VAR_SIDES[1024]) == 14
    assert sum(s * s for s in INFINITY_SIDES) == 10521 and len(INFINITY_SIDES) == 13
    wide = aspect(9 / 16)
    assert wide[9:] == ((9, 16), (12, 21), (18, 32), (24, 43), (30, 53), (45, 80))
    assert sum(h * w for h, w in wide) == 7499 and sum(h * w for h, w in aspect(9 / 16, 14)) == 3899
    assert sum(t * h * w for t, h, w in still(aspect(9 / 16, 14), 20)) == 77980
    assert aspect(16 / 9) == tuple((w, h) for h, w in wide) and aspect(1.0, 3) == (
        (1, 1),
        (2, 2),
        (3, 3),
    )
    assert still(square((1, 2)), 3) == ((3, 1, 1), (3, 2, 2))
