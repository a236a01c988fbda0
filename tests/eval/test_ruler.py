"""The suite `ruler`: players, views that are seen again, and a run on the shipped world that goes on after a stop."""

import json
from pathlib import Path

import numpy as np
import pytest

import vidar.eval.ruler as ruler
from vidar.actions import Action, ActionSpec
from vidar.data.vizdoom import action_spec
from vidar.eval.players import opposite, players
from vidar.eval.ruler_measure import measure, summary
from vidar.eval.ruler_play import Played, RulerConfig
from vidar.types import UsageError

SPEC = action_spec(["TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"])


def test_players_do_what_their_name_says() -> None:
    """Tables are legal, depend only on the start, and turn back as long as they turned."""
    found = players(SPEC, 17.5, turn=51)
    assert {"idle", "hold TURN_LEFT", "hold MOVE_FORWARD TURN_LEFT", "TURN_LEFT and back", "mash"} <= set(found)
    for name, player in found.items():
        table = player(204, 3)
        assert SPEC.validate_actions(table, name).shape == (204, 3)
        assert np.array_equal(table, player(204, 3))
    assert not found["idle"](40, 0).any()
    assert (found["hold TURN_LEFT"](40, 0) == [1, 0, 0]).all()
    back = found["TURN_LEFT and back"](204, 0)
    assert (back[:51] == [1, 0, 0]).all() and (back[51:102] == [0, 1, 0]).all() and (back[102:153] == [1, 0, 0]).all()
    assert not np.array_equal(found["mash"](40, 0), found["mash"](40, 1))


def test_opposite_keys_are_known_by_name() -> None:
    """LEFT and RIGHT, FORWARD and BACKWARD, whatever stands before them."""
    assert opposite("TURN_LEFT", ["TURN_LEFT", "TURN_RIGHT"]) == "TURN_RIGHT"
    assert opposite("left", ["left", "right"]) == "right"
    assert opposite("MOVE_FORWARD", ["MOVE_FORWARD", "TURN_LEFT"]) is None


def test_a_world_without_keys_is_refused() -> None:
    """In one line, before anything is played."""
    with pytest.raises(UsageError, match="has none"):
        players(ActionSpec(actions=(Action(name="x", kind="continuous"),)), 10.0)


def test_figures_of_planted_dreams() -> None:
    """A dream that is the game scores as the game; one that forgets is seen where a view comes back, and only there."""
    random = np.random.Generator(np.random.Philox(1))
    views = random.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    angles = np.concatenate([np.arange(1, 20), np.arange(18, -1, -1)])  # to 19 and back to 0, in 18 degrees
    poses = np.zeros((1, 39, 4))
    poses[0, 1:, 3] = 18.0 * angles
    real = views[angles][None]
    played = Played(np.zeros((1, 38, 1), np.float32), real, poses, np.array([38]))

    class Black:
        """A manifold on which only black frames are off."""

        def off(self, frames: np.ndarray) -> np.ndarray:
            return frames.reshape(len(frames), -1).max(1) == 0

    forgets = real.copy()
    forgets[0, 30:] = 0
    found = {
        name: summary(measure(dream, played, views[:1], 10.0, Black()), 10.0)  # pyright: ignore[reportArgumentType]
        for name, dream in (("perfect", real), ("forgets", forgets))
    }
    perfect, lost = found["perfect"], found["forgets"]
    assert perfect["off_manifold"] == {"model": 0.0, "real": 0.0}
    assert perfect["seen_again_db"]["2"]["views"] > 5
    assert perfect["seen_again_db"]["2"]["model"] == perfect["seen_again_db"]["2"]["real"] == 58.92
    assert lost["off_manifold"] == {"model": round(8 / 38, 4), "real": 0.0}
    assert lost["off_manifold_worst_segment"]["model"] == round(8 / 18, 4)
    assert lost["seen_again_db"]["2"]["model"] < 20


def test_a_run_is_complete_and_goes_on(tmp_path: Path) -> None:
    """Every player is in the report; a second run measures only the one that is missing, with the same figures."""
    small = RulerConfig(reference=2, others=2)
    dreamed: list[int] = []
    first = ruler.run(
        "doom", tmp_path, starts=2, frames=16, config=small, progress=lambda done, _: dreamed.append(done)
    )
    assert len(dreamed) == len(first["players"]) >= 10
    assert 0 <= first["on_manifold"]["model"] <= 1 and first["players"]["idle"]["off_manifold"]["real"] <= 1
    assert json.loads((tmp_path / "report.json").read_text())["players"] == first["players"]
    page = (tmp_path / "report.html").read_text()
    assert page.index("What the players see") < page.index("On and off the game") and page.count("<img") >= 10
    (tmp_path / "players" / "mash.json").write_text("{")
    dreamed.clear()
    again = ruler.run(
        "doom", tmp_path, starts=2, frames=16, config=small, progress=lambda done, _: dreamed.append(done)
    )
    assert len(dreamed) == 1 and again["players"] == first["players"]
    with pytest.raises(UsageError, match="2 starts and 16 frames"):
        ruler.run("doom", tmp_path, starts=1, frames=16)
