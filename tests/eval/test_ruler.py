"""The suite `ruler`: players, views that are seen again, and a run on the shipped world that goes on after a stop."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import vidar.eval.ruler as ruler
from vidar.actions import Action, ActionSpec
from vidar.configs.catalog import find, find_world
from vidar.data.gym import GymConfig
from vidar.data.players import opposite, players, recorded
from vidar.data.vizdoom import action_spec
from vidar.eval.following import true_motion
from vidar.eval.ruler_measure import REAL, PlayerScores, RowScores, _read, closely, kept_share, measure, watched
from vidar.eval.ruler_motion import motion_parts
from vidar.eval.ruler_play import Played, RealGame, RulerConfig
from vidar.eval.ruler_summary import likeness, likeness_parts, player_figures, survival
from vidar.eval.suites import run_suite
from vidar.model.load import save
from vidar.types import UsageError, VidarError

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
    walk = found["walk and return"](180, 0)
    assert (walk[:35] == [0, 0, 1]).all() and (walk[35:60] == [1, 0, 0]).all() and (walk[60:95] == [0, 0, 1]).all()
    assert (walk[95:120] == [0, 1, 0]).all() and (walk[120:155] == [0, 0, 1]).all() and (walk[155:] == [1, 0, 0]).all()
    again = recorded(SPEC, [walk[:50], walk[:3]])
    assert np.array_equal(again(50, 0), walk[:50]) and not again(50, 1)[3:].any()


def test_opposite_keys_are_known_by_name() -> None:
    """LEFT and RIGHT, FORWARD and BACKWARD, whatever stands before them."""
    assert opposite("TURN_LEFT", ["TURN_LEFT", "TURN_RIGHT"]) == "TURN_RIGHT"
    assert opposite("left", ["left", "right"]) == "right"
    assert opposite("MOVE_FORWARD", ["MOVE_FORWARD", "TURN_LEFT"]) is None


def test_a_world_without_keys_is_refused() -> None:
    """In one line, before anything is played."""
    with pytest.raises(UsageError, match="no action with keys"):
        players(ActionSpec(actions=(Action(name="x", kind="continuous"),)), 10.0)


class Black:
    """A manifold on which only black frames are off; the distance of two views is that of their means."""

    def scores(self, frames: np.ndarray) -> np.ndarray:
        return (frames.reshape(len(frames), -1).max(1) == 0).astype(np.float64)

    def apart(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a.mean((1, 2, 3)) - b.mean((1, 2, 3)))


@pytest.fixture(scope="module")
def planted() -> PlayerScores:
    """A game that turns to 18 other views and back, and rows that do as their name says; 10 frames/s."""
    random = np.random.Generator(np.random.Philox(1))
    views = random.integers(1, 256, (20, 32, 32, 3)).astype(np.uint8)
    angles = np.concatenate([np.arange(1, 20), np.arange(18, -1, -1)])  # to 19 and back to 0, in 18 degrees
    poses = np.zeros((2, 39, 4))
    poses[:, 1:, 3] = 18.0 * angles
    real = np.stack([views[angles]] * 2)
    played = Played(np.zeros((2, 38, 1), np.float32), real, poses, np.array([38, 30]))
    forgets, frozen = real.copy(), np.repeat(views[:1][None], 38, 1).repeat(2, 0)
    forgets[:, 25:] = 0
    rows = {"perfect": real, "forgets": forgets, "copy-last": frozen, "blurred": real // 2 + 64}
    return measure(rows, played, np.stack([views[0]] * 2), 10.0, Black())  # pyright: ignore[reportArgumentType]


def test_figures_of_planted_dreams(planted: PlayerScores) -> None:
    """A dream that is the game scores as the game; one that forgets is seen where a view comes back."""
    perfect, lost = (player_figures(planted, row, 0.5, 10.0) for row in ("perfect", "forgets"))
    assert perfect == player_figures(planted, "real", 0.5, 10.0)
    assert perfect["off_manifold"] == 0.0 and perfect["survived_s"] == 3.4  # the second game lasted 30 frames
    assert perfect["seen_again"]["2"]["views"] > 5 and perfect["seen_again"]["2"]["db"] == 58.92
    assert lost["off_manifold"] == round((13 + 5) / (38 + 30), 4)  # frames that the game did not reach are not judged
    assert lost["off_manifold_worst_segment"] == round((13 + 5) / (18 + 10), 4)
    assert survival(planted, "forgets", 0.5, 10.0).tolist() == [2.0, 2.0]
    assert lost["seen_again"]["2"]["db"] < 20 < lost["seen_again"]["2"]["features"]


def test_the_likeness_is_one_for_the_game_and_less_for_every_fault(planted: PlayerScores) -> None:
    """Each part falls for what it looks at, and only the unfaulted row has 1."""
    parts = {row: likeness_parts({"p": planted}, row, 0.5, 10.0) for row in planted.rows}
    found = {row: likeness(part) for row, part in parts.items()}
    assert found["real"] == found["perfect"] == pytest.approx(1.0, abs=1e-5)
    assert max(found["forgets"], found["copy-last"], found["blurred"]) < 0.95
    assert parts["copy-last"]["moves"].max() < 0.1 and parts["copy-last"]["begins"].max() == 0
    assert parts["forgets"]["picture"].max() < 1 and parts["forgets"]["returns"].max() < 1
    assert parts["blurred"]["sharp"] == pytest.approx([0.25, 0.25], abs=0.02)  # half the contrast
    assert parts["blurred"]["colours"].max() < 0.7
    assert parts["copy-last"]["returns"].max() == 0  # a picture that never leaves a view does not return to it
    assert parts["blurred"]["returns"] == pytest.approx([1, 1])
    assert parts["forgets"]["steady"] == pytest.approx([1 / (1 + 10 / 3.8), 1 / (1 + 10 / 3.0)])  # one cut, to black
    assert all((parts[row]["steady"] == 1).all() for row in ("perfect", "copy-last"))


def test_how_far_a_view_is_kept() -> None:
    """By hand: |now - before|^2 over |now - between|^2."""
    grey = np.zeros((5, 2, 2, 3), np.uint8)
    now, before, between = grey + 100, grey + np.array([100, 90, 120, 140, 100]).reshape(-1, 1, 1, 1), grey + 120
    between[4] = 100
    assert kept_share(now, before.astype(np.uint8), between).tolist() == [1, 0.75, 0, 0, 0]


def test_turns_of_a_still_picture_are_half_right_and_the_opposite_is_all_wrong() -> None:
    """And half of the turn is three quarters."""
    poses = np.zeros((2, 41, 4), np.float32)
    poses[..., 3] = 4 * np.minimum(np.arange(41), 30)
    true, count = true_motion(poses), np.zeros((2, 40))
    empty = {one.name: count for one in fields(RowScores)} | {"again": np.zeros((0, 5))}
    of = {REAL: true, "still": 0 * true, "opposite": -true, "slow": true / 2}
    rows = {name: RowScores(**{**empty, "read": read}) for name, read in of.items()}
    all_, keys = np.ones((2, 40), bool), np.full((2, 40, 3), np.nan)
    players_ = {"p": PlayerScores(rows, all_, np.arange(40), keys, all_, all_, all_, poses)}
    found = {name: motion_parts(players_, name, 10.0)["turns"].tolist() for name in rows}
    assert found == {REAL: [1, 1], "still": [0.5, 0.5], "opposite": [0, 0], "slow": [0.75, 0.75]}


def test_arrays_survive_a_file(planted: PlayerScores, tmp_path: Path) -> None:
    """All of them, bit for bit."""
    planted.save(tmp_path / "p.npz")
    again = PlayerScores.load(tmp_path / "p.npz")
    assert list(again.rows) == list(planted.rows)
    for row, one in planted.rows.items():
        for name, values in vars(one).items():
            np.testing.assert_array_equal(values, getattr(again.rows[row], name))


def test_later_frames_are_looked_at_less() -> None:
    """All of ten seconds, then each fifth."""
    assert closely(175, 17.5).tolist() == list(range(175))
    assert closely(300, 17.5)[175:].tolist() == list(range(175, 300, 5))


def test_motion_is_read_for_ten_seconds_and_then_for_one_of_five() -> None:
    """The last second too; what is not read is 0, and neither judged nor visible."""
    steps = watched(600, 10.0)
    wanted = [second < 10 or second % 5 == 4 for second in range(60)]
    assert steps.reshape(60, 10).all(1).tolist() == wanted and steps.sum() == 10 * sum(wanted)

    class Frames:
        """Reads the number of each frame, and sees even ones."""

        def read(self, frames: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            number = frames[:, 1:, 0, 0, 0].astype(float)
            return np.stack([number] * 3, -1), {"turn": number % 2 == 0}

    whole = np.arange(256, dtype=np.uint8)[None, :, None, None, None] * np.ones((2, 1, 1, 1, 3), np.uint8)
    wanted = watched(255, 10.0)
    moved, visible = _read(Frames(), whole, wanted)  # pyright: ignore[reportArgumentType]
    numbers = np.arange(1, 256) * wanted
    assert np.array_equal(moved[1, :, 2], numbers) and np.array_equal(visible["turn"][0], wanted & (numbers % 2 == 0))


SMALL = RulerConfig(reference=2, others=2, clips=1, starts=2, seconds=16 / 17.5, long_seconds=20 / 17.5)
FEW = SMALL.replace(only=("idle", "mash", "TURN_LEFT and back"))


def test_a_run_is_complete_and_goes_on(tmp_path: Path) -> None:
    """Every player is in the report; a second run measures only the one that is missing, with the same figures."""
    done: list[tuple[int, int]] = []
    first = ruler.run("doom", tmp_path, config=FEW, workers=1, progress=lambda *now: done.append(now))
    assert done[-1] == (8, 8) and set(first["players"]) == set(FEW.only)
    assert first["frames"] == {"idle": 20, "TURN_LEFT and back": 16, "mash": 20}
    assert first["rows"]["real"]["likeness"] == pytest.approx(1, abs=0.01)
    assert first["rows"]["model"]["likeness"] < 0.9
    assert json.loads((tmp_path / "report.json").read_text())["players"] == first["players"]
    page = (tmp_path / "report.html").read_text()
    assert page.index("What the players see") < page.index("Likeness to the game") and page.count("<img") >= 6
    whole = (tmp_path / "players" / "mash.npz").read_bytes()
    (tmp_path / "players" / "mash.npz").write_bytes(whole[: len(whole) // 2])
    done.clear()
    again = ruler.run("doom", tmp_path, config=FEW, workers=1, progress=lambda *now: done.append(now))
    assert done == [(1, 1)] and again["players"] == first["players"] and again["rows"] == first["rows"]


def test_two_processes_and_another_number_of_threads_change_no_digit(tmp_path: Path) -> None:
    """Of the rows that no network makes: the game, copy-last, retrieval."""
    script = (
        "import sys; from tests_ruler import FEW; import vidar.eval.ruler as ruler; "
        "ruler.run('doom', sys.argv[1], config=FEW, workers=int(sys.argv[2]))"
    )
    (tmp_path / "tests_ruler.py").write_text(
        "from vidar.eval.ruler_play import RulerConfig\nFEW = RulerConfig(**" + repr(FEW.model_dump()) + ")\n"
    )
    found = []
    for threads, workers in ((1, 2), (2, 1)):
        out = tmp_path / f"{threads}"
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        subprocess.run([sys.executable, "-c", script, out, str(workers)], env=env, check=True, timeout=300)
        report = json.loads((out / "report.json").read_text())
        found.append(
            [
                {who: by[who] for who in ("real", "copy-last", "retrieval")}
                for by in (report["rows"], *report["players"].values())
            ]
        )
    assert found[0] == found[1]


def test_the_world_of_shapes_has_its_own_game(tmp_path: Path) -> None:
    """It is known by its actions, is played with the keys of its choice, and tells where the player is."""
    world = find_world(find("world_shapes")(preset="tiny")).build()
    save(world, tmp_path / "world")
    longer = SMALL.replace(seconds=6.0, long_seconds=6.0)
    report = ruler.run(str(tmp_path / "world"), tmp_path / "out", config=longer, workers=1)
    assert {"idle", "hold move ArrowUp", "move ArrowLeft and back", "mash", "recorded play"} <= set(report["players"])
    assert report["rows"]["real"]["parts"]["begins"] == pytest.approx(1, abs=0.01)
    for name, by_row in report["players"].items():
        real = by_row["real"]["following"]
        assert real["turn"]["second"] == 0 and (real["step"]["second"] or 0) < 0.5, name  # the player is in front
    assert report["players"]["idle"]["real"]["following"]["step"]["second"] is not None
    assert report["rows"]["real"]["parts"]["prompt"] == 1 and report["rows"]["copy-last"]["parts"]["prompt"] == 0
    assert report["rows"]["copy-last"]["parts"]["steps"] == 0.5 and report["shuffled_keys"]["prompt"] < 0.5
    assert "Action following" in (tmp_path / "out" / "report.html").read_text()
    scores = PlayerScores.load(tmp_path / "out" / "players" / "hold_move_ArrowRight.npz")
    moved = np.diff(scores.poses, axis=1)
    assert (moved[..., 0] >= 0).all() and moved[..., 0].any() and not moved[..., 1].any()
    with pytest.raises(VidarError, match="give its game with --game"):
        ruler.run("doom", tmp_path / "x", game="shapes")
    with pytest.raises(VidarError, match="give the game of this world with --game"):
        ruler.run(str(tmp_path / "world"), tmp_path / "x", game="my_way_home")


def test_a_gymnasium_environment_is_played_with_the_same_keys() -> None:
    """Starts are its own episodes, and play that was recorded after a start is seen again."""
    gymnasium.register("TestShapes-v0", entry_point="vidar.data.shapes_env:ShapesEnv")
    world = find_world(find("world_shapes")(preset="tiny"))
    running = GymConfig(env_id="TestShapes-v0", height=32, width=32).build()
    try:
        world = world.replace(actions=running.spec, fps=running.fps)
        with pytest.raises(VidarError, match="with --game"):
            RealGame(find_world(find("world_doom")(preset="tiny")), RulerConfig(game="TestShapes-v0"), 8)
    finally:
        running.close()
    game = RealGame(world, RulerConfig(game="gym:TestShapes-v0"), 8)
    starts = game.starts(2)
    whole = game.episode(starts[1].seed, game.lead + 8)
    played = game.play(starts, recorded(world.spec, [start.after for start in starts]), 8)
    assert np.array_equal(played.frames[1], whole.frames[game.lead :]) and played.lasted.tolist() == [8, 8]
    game.close()


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    """Before anything is dreamed."""
    with pytest.raises(UsageError, match="16 frames or more, not 3"):
        ruler.run("doom", tmp_path, frames=3)
    with pytest.raises(UsageError, match="no player 'dance'; valid: idle"):
        ruler.run("doom", tmp_path, config=SMALL.replace(only=("dance",)))
    with pytest.raises(UsageError, match="--suite"):
        run_suite("rulers", "doom", tmp_path, {})
    assert not list(tmp_path.iterdir())
