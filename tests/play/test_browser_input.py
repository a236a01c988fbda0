"""Keyboard, mouse and focus in a real browser: modifiers, layouts, pointer lock, and keys that must not stick."""

import time

import pytest
from chromium import NEEDED, WAIT, held, leave, url

from vidar.actions import Action, ActionSpec
from vidar.play.keys import DEGREES_PER_PIXEL

pytestmark = NEEDED

MODIFIER = {"ControlLeft": ("Control", 2), "ControlRight": ("Control", 2)}
MODIFIER |= {"AltLeft": ("Alt", 1), "ShiftLeft": ("Shift", 8)}


@pytest.fixture
def with_keys(tiny, serve, monkeypatch):
    """with_keys(*actions) serves the small world under five actions of another spec."""

    def begin(*actions):
        spec = ActionSpec(actions=actions)
        assert spec.width == 5
        monkeypatch.setattr(tiny, "config", tiny.config.replace(actions=spec))
        return serve(fps=20.0)

    return begin


def press(tab, code, down=True, flags=0):
    """A key with its flags as a browser sends them."""
    key = MODIFIER[code][0] if code in MODIFIER else " " if code == "Space" else code.removeprefix("Key").lower()
    kind = "rawKeyDown" if down else "keyUp"
    tab.call("Input.dispatchKeyEvent", type=kind, code=code, key=key, modifiers=flags)


def mouse(tab, kind, x, y, button="none", buttons=0):
    tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)


def middle(tab):
    return tab.get(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        "(document.getElementById('screen').getBoundingClientRect())"
    )


def settles(served, row):
    end = time.monotonic() + WAIT
    while held(served) != row:
        assert time.monotonic() < end, (held(served), row)
        time.sleep(0.02)


def test_modifiers_are_keys_alone_and_with_others(with_keys, browser):
    names = (("run", "w"), ("sneak", "shift"), ("sprint", "ctrl"), ("look", "AltLeft"), ("jump", "space"))
    served = with_keys(*(Action(name=name, keys=(key,)) for name, key in names))
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    for bit, code in enumerate(("ShiftLeft", "ControlLeft", "AltLeft"), 1):
        flags = MODIFIER[code][1]
        press(tab, code, flags=flags)
        settles(served, [float(n == bit) for n in range(5)])
        press(tab, "KeyW", flags=flags)
        settles(served, [float(n in (0, bit)) for n in range(5)])
        press(tab, "KeyW", False, flags)
        press(tab, code, False)
        settles(served, [0] * 5)
    press(tab, "ControlRight", flags=2)  # "ctrl" is either of them
    settles(served, [0, 0, 1, 0, 0])
    press(tab, "ControlRight", False)
    press(tab, "KeyW", flags=4)  # Meta is no key of this world: the browser's own shortcut
    press(tab, "Space")
    settles(served, [0, 0, 0, 0, 1])
    note = tab.get("document.getElementById('browser-keys').textContent")
    assert "Ctrl, Alt" in note and "Ctrl+W" in note
    assert not tab.get("document.getElementById('browser-keys').hidden")
    press(tab, "Space", False)
    leave(tab)


def test_keys_are_let_go_whatever_the_order_of_events(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    for ending in ("blur", "pagehide-like visibilitychange", "blur twice"):
        press(tab, "KeyW")
        settles(served, [0, 0, 1, 0, 0])
        target = "document" if "visibility" in ending else "window"
        event = "visibilitychange" if "visibility" in ending else "blur"
        tab.get(f"{target}.dispatchEvent(new Event('{event}'))")
        settles(served, [0] * 5)
        tab.call("Input.dispatchKeyEvent", type="rawKeyDown", code="KeyW", key="w", autoRepeat=True)  # still down
        if ending == "blur twice":
            tab.get("window.dispatchEvent(new Event('blur'))")
        press(tab, "KeyW", False)  # and its end comes late
        tab.until("vidar.mask === 0 && vidar.echo === vidar.seq")
        assert held(served) == [0] * 5
    tab.get("void (document.hasFocus = () => false)")  # a key that comes after the focus has gone
    press(tab, "KeyW")
    time.sleep(0.2)
    assert tab.get("vidar.mask") == 0
    leave(tab)


def test_mouse_turns_only_while_it_moves_and_its_buttons_are_keys(with_keys, browser):
    served = with_keys(
        Action(name="dx", kind="continuous", low=-90, high=90),
        Action(name="mouse_dy", kind="continuous", low=-90, high=90),
        Action(name="attack", keys=("MouseLeft",)),
        Action(name="use", keys=("MouseRight",)),
        Action(name="run", keys=("w",)),
    )
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    x, y = middle(tab)
    mouse(tab, "mousePressed", x, y, "left", 1)  # gives the mouse to the page, and presses nothing
    mouse(tab, "mouseReleased", x, y, "left")
    tab.until("document.pointerLockElement === document.getElementById('screen')")
    assert tab.get("vidar.mask") == 0
    log = served.engine.slots[0].log
    before = len(log.rows)
    for step in range(1, 6):
        mouse(tab, "mouseMoved", x + 8 * step, y - 2 * step)
    tab.until("vidar.echo === vidar.seq")
    end = time.monotonic() + WAIT
    while True:
        moved = [sum(float(row[column]) for row in log.rows[before:]) for column in (0, 1)]
        if abs(moved[0]) >= 8 * 4 * DEGREES_PER_PIXEL - 1e-3:
            break
        assert time.monotonic() < end, moved
        time.sleep(0.05)
    assert moved[0] > 0 > moved[1] and moved[1] / moved[0] == pytest.approx(-0.25, abs=0.05)
    time.sleep(0.3)
    rest = len(log.rows)
    time.sleep(0.5)
    assert len(log.rows) > rest + 3 and not any(row[:2].any() for row in log.rows[rest:])
    mouse(tab, "mousePressed", x, y, "left", 1)
    settles(served, [0, 0, 1, 0, 0])
    mouse(tab, "mousePressed", x, y, "right", 3)
    settles(served, [0, 0, 1, 1, 0])
    mouse(tab, "mouseReleased", x, y, "left", 2)
    settles(served, [0, 0, 0, 1, 0])
    press(tab, "KeyW")
    settles(served, [0, 0, 0, 1, 1])
    tab.get("document.exitPointerLock()")  # all is let go with the mouse
    settles(served, [0] * 5)
    mouse(tab, "mouseReleased", x, y, "right")
    press(tab, "KeyW", False)
    assert tab.get("document.getElementById('degrees').textContent") == "0.15\u00b0 per count"
    tab.get("(e => { e.value = 2; e.dispatchEvent(new Event('input')); })(document.getElementById('sensitivity'))")
    assert tab.get("document.getElementById('degrees').textContent") == "0.30\u00b0 per count"
    assert tab.get("localStorage.getItem('vidar.sensitivity')") == "2" and tab.faults == []
    tab.get("localStorage.clear()")
    leave(tab)


AZERTY = "navigator.keyboard.getLayoutMap = async () => new Map([['KeyW', 'z'], ['KeyA', 'q'], ['KeyD', 'd']]);"


def test_keys_are_positions_and_bear_the_names_of_the_users_layout(serve, browser):
    served = serve(fps=20.0)
    prepare = lambda tab: tab.call("Page.addScriptToEvaluateOnNewDocument", source=AZERTY)  # noqa: E731
    tab = browser(url(served), prepare)
    tab.until("vidar.playing && vidar.frames > 3")
    shown = "document.querySelector('li[data-code={}] kbd').textContent"
    tab.until(shown.format("KeyW") + " === 'Z'")
    assert [tab.get(shown.format(code)) for code in ("KeyA", "KeyD", "ArrowUp")] == ["Q", "D", "\u2191"]
    tab.call("Input.dispatchKeyEvent", type="rawKeyDown", code="KeyW", key="z")  # the key above S
    settles(served, [0, 0, 1, 0, 0])
    tab.call("Input.dispatchKeyEvent", type="keyUp", code="KeyW", key="z")
    tab.call("Input.dispatchKeyEvent", type="rawKeyDown", code="KeyD", key="e")  # a layout learned from its keys
    tab.until(shown.format("KeyD") + " === 'E'")
    leave(tab)
