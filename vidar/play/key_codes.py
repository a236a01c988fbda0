"""The names of keys: what an ActionSpec may call them, and how a browser calls them (KeyboardEvent.code).

A code means the position of a key, not its letter: "KeyW" is the key above S on every keyboard layout. Buttons of the
mouse are keys too: MouseLeft, MouseMiddle, MouseRight, MouseBack and MouseForward.
"""

from __future__ import annotations

import string

MODIFIERS = ("Shift", "Control", "Alt", "Meta")
MOUSE = ("Left", "Middle", "Right", "Back", "Forward")
CODES = (
    *(f"Key{letter}" for letter in string.ascii_uppercase),
    *(f"Digit{n}" for n in range(10)),
    *(f"F{n}" for n in range(1, 25)),
    *(f"Arrow{way}" for way in ("Left", "Right", "Up", "Down")),
    *(f"{name}{side}" for name in MODIFIERS for side in ("Left", "Right")),
    *(f"Numpad{n}" for n in range(10)),
    *(f"Numpad{name}" for name in ("Add", "Subtract", "Multiply", "Divide", "Decimal", "Comma", "Equal", "Enter")),
    *("Space", "Tab", "Enter", "Backspace", "Escape", "CapsLock", "ContextMenu", "Insert", "Delete", "Home", "End"),
    *("PageUp", "PageDown", "Minus", "Equal", "BracketLeft", "BracketRight", "Backslash", "Semicolon", "Quote"),
    *("Backquote", "Comma", "Period", "Slash", "IntlBackslash", "IntlRo", "IntlYen", "NumLock", "ScrollLock", "Pause"),
    *(f"Mouse{name}" for name in MOUSE),
)
_NAMED = {
    **{code.lower(): code for code in CODES},
    **{letter: f"Key{letter.upper()}" for letter in string.ascii_lowercase},
    **{digit: f"Digit{digit}" for digit in string.digits},
    **{f"mouse_{button.lower()}": f"Mouse{button}" for button in MOUSE},
    "shift": "ShiftLeft",
    "ctrl": "ControlLeft",
    "control": "ControlLeft",
    "alt": "AltLeft",
    "meta": "MetaLeft",
    "cmd": "MetaLeft",
    "win": "MetaLeft",
    "esc": "Escape",
    "del": "Delete",
    "return": "Enter",
    " ": "Space",
    "left": "ArrowLeft",
    "right": "ArrowRight",
    "up": "ArrowUp",
    "down": "ArrowDown",
    "-": "Minus",
    "=": "Equal",
    "[": "BracketLeft",
    "]": "BracketRight",
    "\\": "Backslash",
    ";": "Semicolon",
    "'": "Quote",
    "`": "Backquote",
    ",": "Comma",
    ".": "Period",
    "/": "Slash",
}


def code_of(key: str) -> str:
    """A key of an ActionSpec -> its code: "w" -> "KeyW", "ctrl" -> "ControlLeft". Unknown names come back unchanged."""
    return _NAMED.get(key.lower(), key)


def is_known(key: str) -> bool:
    """Whether a keyboard or mouse has this key."""
    return code_of(key) in CODES
