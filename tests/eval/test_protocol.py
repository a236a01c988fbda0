"""The protocol is frozen: a change here goes with a line in CHANGELOG, because old figures cannot be compared then.

Regenerate: python tests/eval/test_protocol.py > tests/golden/world_protocol.yaml
"""

from pathlib import Path

import pytest

from vidar.config import to_yaml
from vidar.eval.protocol import DEMO, GAINS, WORLD, span
from vidar.types import UsageError

GOLDEN = Path(__file__).parent.parent / "golden" / "world_protocol.yaml"


def listing():
    return f"# {__doc__.splitlines()[-1]}\nworld:\n{indented(to_yaml(WORLD))}demo:\n{indented(to_yaml(DEMO))}"


def indented(text):
    return "".join(f"  {line}\n" for line in text.splitlines())


def test_protocol_is_frozen():
    assert listing() == GOLDEN.read_text()
    with pytest.raises(Exception, match="frozen"):
        WORLD.frames = 8


def test_the_demo_plays_the_first_games_of_the_suite():
    assert DEMO.game == WORLD.game == 2_000_000 and DEMO.episodes < WORLD.episodes
    assert WORLD.replace(seed=3).game == 2_030_000
    assert WORLD.replace(seed=WORLD.last_seed).game + WORLD.games_per_seed <= 2**32


def test_ranges_are_from_1_with_both_ends():
    assert list(range(100))[span((4, 16))] == list(range(3, 16))
    assert GAINS == {"copy_last": (1, 16), "shuffled_actions": (4, 16)}


@pytest.mark.parametrize("bad", [{"episodes": 1}, {"frames": 15}, {"seed": -1}, {"seed": 10**6}])
def test_bad_numbers_are_named(bad):
    with pytest.raises(UsageError, match="an evaluation needs at least 2 episodes, at least 16 frames"):
        WORLD.replace(**bad)


if __name__ == "__main__":
    print(listing(), end="")
