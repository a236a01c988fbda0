"""The window, with SDL's own dummy screen: real events, real frames."""

import sys

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.play.engine import PlayEngine, Start
from vidar.play.keys import DEGREES_PER_PIXEL
from vidar.play.window import Window
from vidar.types import VidarError


@pytest.fixture
def pygame(monkeypatch):
    module = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return module


def window(engine, first_frames):
    return Window(engine, Start(first_frames, None, 3), scale=2)


def test_keys_reach_the_dream_and_frames_the_screen(tiny, first_frames, pygame):
    with PlayEngine(tiny, 1) as engine:
        made = window(engine, first_frames)
        codes = engine.keys.codes
        event = pygame.event.Event
        for name, scancode in (("ArrowLeft", pygame.KSCAN_LEFT), ("KeyW", pygame.KSCAN_W)):
            made.take(event(pygame.KEYDOWN, key=0, scancode=scancode))
            row = made.slot.inputs.row()
            assert np.array_equal(row, engine.keys.row(1 << codes.index(name)))
            made.take(event(pygame.KEYUP, key=0, scancode=scancode))
            assert not made.slot.inputs.row().any()
        made.take(event(pygame.KEYDOWN, key=0, scancode=pygame.KSCAN_LEFT))
        made.take(event(pygame.WINDOWFOCUSLOST))
        assert not made.slot.inputs.row().any()
        shown = made.slot.newest(None, timeout=20)
        made.paint(shown)
        pixels = pygame.surfarray.array3d(made.screen).swapaxes(0, 1)
        assert pixels.shape == (128, 160, 3) and np.array_equal(pixels[::2, ::2], shown.frame)
        made.take(event(pygame.KEYDOWN, key=pygame.K_RETURN, scancode=pygame.KSCAN_RETURN))
        assert made.slot.log.start.seed == 4
        made.take(event(pygame.KEYDOWN, key=pygame.K_p, scancode=pygame.KSCAN_P))
        assert made.slot.paused
        made.take(event(pygame.KEYDOWN, key=pygame.K_p, scancode=pygame.KSCAN_P))
        pygame.event.post(event(pygame.KEYDOWN, key=pygame.K_ESCAPE, scancode=pygame.KSCAN_ESCAPE))
        made.run(20)
        assert made.over and not engine.slots


def test_the_mouse_looks_around_after_a_click_and_keys_are_positions(tiny, first_frames, pygame, monkeypatch):
    look = Action(name="dx", kind="continuous", low=-90, high=90)
    named = [("attack", "MouseLeft"), ("sprint", "ctrl"), ("look", "AltRight"), ("say", ";")]
    spec = ActionSpec(actions=(look, *(Action(name=name, keys=(key,)) for name, key in named)))
    monkeypatch.setattr(tiny, "config", tiny.config.replace(actions=spec))
    with PlayEngine(tiny, 1) as engine:
        made = window(engine, first_frames)
        event, rows = pygame.event.Event, made.slot.inputs
        made.take(event(pygame.MOUSEMOTION, rel=(30, 0), pos=(0, 0), buttons=(0, 0, 0)))
        assert not made.grabbed and not rows.row().any()
        made.take(event(pygame.MOUSEBUTTONDOWN, button=1, pos=(0, 0)))
        assert made.grabbed and not rows.row().any()
        made.take(event(pygame.MOUSEBUTTONDOWN, button=1, pos=(0, 0)))
        for scancode, column in ((pygame.KSCAN_RCTRL, 2), (pygame.KSCAN_RALT, 3), (pygame.KSCAN_SEMICOLON, 4)):
            made.take(event(pygame.KEYDOWN, key=0, scancode=scancode))
            assert rows.row()[[1, column]].tolist() == [1, 1]
            made.take(event(pygame.KEYUP, key=0, scancode=scancode))
        with engine.wake:  # before a frame uses the motion
            made.take(event(pygame.MOUSEMOTION, rel=(20, 0), pos=(0, 0), buttons=(1, 0, 0)))
            assert rows.row()[0] == pytest.approx(20 * DEGREES_PER_PIXEL)
        made.take(event(pygame.KEYDOWN, key=pygame.K_ESCAPE, scancode=pygame.KSCAN_ESCAPE))
        assert not made.grabbed and not made.over and not rows.holding
        made.take(event(pygame.KEYDOWN, key=pygame.K_ESCAPE, scancode=pygame.KSCAN_ESCAPE))
        assert made.over


def test_it_plays_until_its_time_is_up(tiny, first_frames, pygame):
    with PlayEngine(tiny, 1) as engine:
        made = window(engine, first_frames)
        made.run(1.0)
        assert made.painted >= 3 and not engine.slots


def test_without_pygame_one_line_says_what_to_install(tiny, first_frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(VidarError, match=r"pip install 'vidar-world\[window\]'"):
        window(PlayEngine(tiny, 1), first_frames)


def test_without_a_screen_nothing_is_played_unseen(tiny, first_frames, pygame, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")  # what SDL takes by itself where it finds no screen
    pygame.display.quit()
    with PlayEngine(tiny, 1) as engine, pytest.raises(VidarError, match="there is no screen.*vidar play"):
        window(engine, first_frames)
