"""Tasks that hang: by hand, with a clock of our own."""

import pytest

from vidar.synth.graph import Item, Kind
from vidar.synth.watchdog import Watchdog


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

        def run(self, watchdog, seconds, step=1.0):
            """So many seconds in which somebody looks at every step."""
            for _ in range(round(seconds / step)):
                self.now += step
                watchdog.overdue()

    return Clock()


def pop(segment):
    return Item(Kind.POP, 0, segment)


def test_far_longer_than_its_like(clock):
    """10 times the median of its kind, per frame, but 60 s in any case."""
    watchdog = Watchdog(clock=clock)
    for number, seconds in enumerate((20, 40, 90)):  # of 4 frames each: 10 s a frame
        watchdog.begin(pop(number), 4)
        clock.run(watchdog, seconds)
        watchdog.end(pop(number), True)
    watchdog.begin(pop(8), 2)
    watchdog.begin(pop(9), 1)
    watchdog.begin(Item(Kind.PLAN, 0, 9), 1)
    assert [watchdog.limit(item) for item in (pop(8), pop(9), Item(Kind.PLAN, 0, 9))] == [200, 100, 3600]
    clock.run(watchdog, 100)
    assert not watchdog.overdue()
    clock.run(watchdog, 1)
    assert watchdog.overdue() == {pop(9): "no answer for 100 s, far longer than other tasks took"}
    watchdog.end(pop(9), False)
    assert not watchdog.overdue()
    clock.run(watchdog, 100)
    assert list(watchdog.overdue()) == [pop(8)]


def test_quick_tasks_have_a_floor(clock):
    watchdog = Watchdog(clock=clock)
    watchdog.begin(pop(0), 1)
    clock.run(watchdog, 0.1, 0.1)
    watchdog.end(pop(0), True)
    watchdog.begin(pop(1), 1)
    assert watchdog.limit(pop(1)) == 60


def test_what_is_lost_is_nobody_s_like(clock):
    watchdog = Watchdog(clock=clock)
    watchdog.begin(pop(0), 1)
    clock.run(watchdog, 50)
    watchdog.end(pop(0), False)
    watchdog.begin(pop(1), 1)
    assert watchdog.limit(pop(1)) == 3600


def test_time_in_which_nobody_looks_does_not_count(clock):
    """The driver itself was stopped for an hour: 2 s of it count."""
    watchdog = Watchdog(floor=10, first=10, clock=clock)
    watchdog.begin(pop(0), 1)
    clock.run(watchdog, 7)
    clock.now += 3600
    assert not watchdog.overdue()
    clock.run(watchdog, 2)
    assert list(watchdog.overdue()) == [pop(0)]
