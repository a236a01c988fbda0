"""The shipped world dreams 2,000 frames under the keys of held-out games and must still be the game at the end."""

import pytest

from vidar.eval.action_score import reader
from vidar.eval.endless_measure import frame_times, lines, measure, time_line
from vidar.eval.endless_play import EndlessConfig, play
from vidar.model.load import load

ROLLOUTS, FRAMES = 8, 2000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world():
    return load("doom")


@pytest.fixture(scope="module")
def played(world):
    pytest.importorskip("vizdoom")
    return play(world.config, ROLLOUTS, FRAMES, 0, EndlessConfig())


@pytest.fixture(scope="module")
def found(world, played):
    """The lines by name, and how long a dream stays a game."""
    from vidar.eval.inverse_dynamics import action_scores

    net = reader(world.config).net
    judge = None if net is None else lambda frames, actions, poses: action_scores(net, frames, actions, poses)
    return lines(measure(world, played, judge=judge))


@pytest.mark.parametrize("look", ["brightness", "contrast", "sharpness"])
def test_later_frames_look_like_the_game(found, look):
    assert found[look].real <= found[look].most, f"real play itself: {found[look]}"
    assert found[look].passed, found[look]


@pytest.mark.parametrize("frames", ["motion", "motion_late"])
def test_the_picture_moves_as_in_the_game(found, frames):
    assert found[frames].passed, found[frames]


def test_the_last_frames_obey_the_keys(found):
    if found["actions"].passed is None:
        pytest.skip(found["actions"].why)
    assert found["actions"].passed, found["actions"]


@pytest.mark.parametrize("what", ["memory", "cache"])
def test_memory_is_flat_and_the_cache_stays_where_it_is(found, what):
    assert found[what].passed, found[what]


def test_late_frames_take_as_long_as_early_ones(world, played):
    """Not beside other work: the medians are of 14 young and 42 old frames."""
    window = world.config.order.window
    times = frame_times(world, played, window)
    assert (len(times.young), len(times.old)) == (2 * window, 6 * window)
    line = time_line(times)
    assert line.passed, line
