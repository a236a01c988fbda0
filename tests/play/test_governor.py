"""The governor by hand: what frames cost decides how many steps the next ones get."""

import pytest

from vidar.play.governor import Governor
from vidar.types import UsageError


def test_fewer_steps_at_once_more_only_after_a_while():
    governor = Governor(1, 4, period=0.1, keep=12)
    assert governor.steps == 4 and governor.cost() == 0.0
    governor.spent(0.088, 4)  # 22 ms a step: four fit into 90 ms
    assert governor.steps == 4 and governor.cost() == pytest.approx(0.088)
    governor.spent(9.0, 4)  # the first frames tell nothing yet
    assert governor.steps == 4
    for _ in range(10):
        governor.spent(4 * 0.04, 4)  # 40 ms a step: two fit
    assert governor.steps == 2
    for _ in range(12):
        governor.spent(2 * 0.022, 2)
    assert governor.steps == 2  # not before twelve frames that left room for one more
    for _ in range(12):
        governor.spent(2 * 0.022, 2)
    assert governor.steps == 3
    for _ in range(30):
        governor.spent(3 * 0.022, 3)
    assert governor.steps == 4
    for _ in range(30):
        governor.spent(4 * 0.001, 4)
    assert governor.steps == 4  # never more than most
    for _ in range(10):
        governor.spent(1.0, 4)
    assert governor.steps == 1  # never fewer than least


def test_one_slow_frame_of_many_changes_nothing():
    governor = Governor(1, 4, period=0.1, keep=40)
    for n in range(200):
        governor.spent(0.3 if n % 20 == 10 else 0.08, 4)
    assert governor.steps == 4


def test_a_frame_costs_what_the_slowest_tenth_does():
    """3 slow frames of 20 are more than a tenth, far fewer than half: three steps of 30 ms fit into 90 ms, not four."""
    governor = Governor(1, 4, period=0.1, keep=20)
    for n in range(20):
        governor.spent(0.12 if n in (5, 11, 17) else 0.02, 4)
    assert governor.cost(1) == pytest.approx(0.03) and governor.steps == 3
    few = Governor(1, 4, period=0.1, keep=20)
    for n in range(20):
        few.spent(0.12 if n == 17 else 0.02, 4)
    assert few.cost(1) == pytest.approx(0.005) and few.steps == 4


def test_one_step_more_after_as_many_frames_with_room_as_are_kept_and_none_where_it_does_not_fit():
    """40 ms a step after twelve slow frames: two of those are not the slowest tenth, so from the tenth on there is room
    for two steps, which twelve frames have to show; three do not fit into 90 ms."""
    governor, steps = Governor(1, 3, period=0.1, keep=12), []
    for _ in range(12):
        governor.spent(3 * 0.2, 3)
    assert governor.steps == 1
    for _ in range(60):
        governor.spent(0.04 * governor.steps, governor.steps)
        steps.append(governor.steps)
    assert steps == [1] * 20 + [2] * 40


def test_no_rate_to_hold_and_bad_limits():
    governor = Governor(1, 4, period=0.0)
    for _ in range(50):
        governor.spent(9.0, 4)
    assert governor.steps == 4
    for least, most in ((0, 4), (5, 4)):
        with pytest.raises(UsageError, match=f"1 to {most} steps in this world, not {least}"):
            Governor(least, most, 0.1)
