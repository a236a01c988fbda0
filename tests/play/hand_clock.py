"""Time that moves by hand: whether a frame is dreamed before it is due does not depend on how busy the machine is."""

import time


class HandClock:
    """The `now` of an engine. Work takes no time on it, so a guess always fits; what is due is for the test to say."""

    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


def guessed(engine, instead=None):
    """Wait until the next frame has been dreamed and decoded before its time, anew `instead` of a guess; the guess."""
    deadline = time.monotonic() + 60
    while (guess := engine.guess) is None or guess is instead:
        engine.raise_failure()
        assert time.monotonic() < deadline, "no guess was made"
        time.sleep(0.001)
    guess.pictures.frames.result(60)
    return guess


def due(engine, pressed=()):
    """The keys (slot, row) are pressed and the next frame is due, in one moment."""
    with engine.wake:
        for slot, row in pressed:
            slot.press(row)
        engine.now.at += engine.clock.period
        engine.wake.notify_all()
