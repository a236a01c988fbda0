"""The map in a real browser: it is there with a memory and not without, fits both screens, and can be hidden."""

import pytest
from chromium import KEYS, NEEDED, SIZES, leave, url
from remembering import remembering

pytestmark = NEEDED


@pytest.fixture(scope="module")
def world():
    return remembering()


def box(tab, name):
    return tab.get(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")


def apart(one, other):
    return (
        one["right"] <= other["left"]
        or other["right"] <= one["left"]
        or one["bottom"] <= other["top"]
        or other["bottom"] <= one["top"]
    )


@pytest.mark.parametrize("width, height, touch", [(*SIZES[0], False), (*SIZES[1], False), (*SIZES[1], True)])
def test_the_map_shows_the_player_and_hides(serve, browser, world, width, height, touch):
    served = serve(world=world, fps=20.0)

    def prepare(tab):
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        if touch:
            tab.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)

    tab = browser(url(served), prepare)
    tab.until("vidar.playing && vidar.frames > 3 && vidar.charts > 2")
    shown, screen = box(tab, "map"), box(tab, "screen")
    assert screen["left"] <= shown["left"] < shown["right"] <= screen["right"]
    assert screen["top"] <= shown["top"] < shown["bottom"] <= screen["bottom"]
    assert shown["width"] * shown["height"] < 0.2 * screen["width"] * screen["height"]
    assert all(apart(shown, box(tab, name)) for name in ("controls", "touch" if touch else "keys"))
    assert tab.get("document.documentElement.scrollWidth <= innerWidth && scrollY === 0")
    picture = tab.picture("#map-picture").astype(int)
    orange = (abs(picture - (0xF0, 0xB3, 0x5A)) < 30).all(-1)
    assert orange.sum() > 20  # the arrow
    before = tab.get("vidar.charts")
    tab.until(f"vidar.charts > {before}")
    KEYS["KeyM"] = 77
    for hidden in (True, False):
        tab.key("rawKeyDown", "KeyM")
        tab.key("keyUp", "KeyM")
        assert (box(tab, "map")["width"] == 0) is hidden
        assert tab.get("document.getElementById('map-button').getAttribute('aria-pressed')") == str(not hidden).lower()
    seed = tab.get("vidar.seed")
    tab.get("document.getElementById('seed').click()")
    tab.until(f"vidar.seed !== {seed} && vidar.chart && vidar.chart.frame < 10")  # of the new dream
    assert tab.faults == []
    leave(tab)


def test_a_world_without_its_memory_has_no_map(serve, browser, world):
    served = serve(world=world.without_memory(), fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 15")
    assert tab.get("vidar.charts") == 0 and box(tab, "map")["width"] == box(tab, "map-button")["width"] == 0
    assert tab.get("document.querySelector('[data-does=map-button]')") is None
    leave(tab)
