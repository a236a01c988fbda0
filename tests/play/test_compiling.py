"""An engine goes over to compiled calls while it plays: the frame is noted, and the replay goes over there too."""

import hashlib
import re
import time

import numpy as np
import pytest
import torch

import vidar.model.setting
from vidar.model.load import load, save
from vidar.play.compiling import Compiling, kept, may_compile
from vidar.play.engine import PlayEngine, Start
from vidar.play.recording import keep, read
from vidar.play.replay import write_replay
from vidar.types import UsageError, VidarError

SLOW = 300  # seconds a compiler may take on a busy machine


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    made = tmp_path_factory.mktemp("models") / "small"
    save(world, made, dtype=torch.float32)
    return made


def rounds(engine, slot, count):
    """Frames [count, H, W, 3] as they were shown."""
    shown = []
    for _ in range(count):
        slot.asked = time.monotonic()
        engine.round()
        shown.append(slot.shown.frame.copy())
    return np.stack(shown)


def test_frames_after_the_change_are_of_the_new_model_and_the_replay_follows(
    folder, first_frames, tmp_path, monkeypatch
):
    built = []
    monkeypatch.setattr(vidar.model.setting, "AheadOfTime", lambda: lambda module, example: built.append(1) or module)
    engine = PlayEngine(load(folder), 1)
    slot = engine.sit(Start(first_frames, None, 11))
    shown = rounds(engine, slot, 3)
    assert not built and not engine.compiled
    engine.use(engine.world.rollout(1, compiled=True).model)
    functions = len(built)
    shown = np.concatenate([shown, rounds(engine, slot, 4)])
    assert len(built) == functions > 0 and engine.compiled
    keep(slot, tmp_path / "x.dream")
    assert read(tmp_path / "x.dream").told["eager"] == slot.log.eager == 3
    made = write_replay(tmp_path / "x.dream", tmp_path / "x.mp4", str(folder))
    assert made["frames_sha256"] == hashlib.sha256(shown.tobytes()).hexdigest()
    assert made["eager"] == 3 and len(built) == 2 * functions


def test_a_guess_of_the_old_model_is_dropped(folder, first_frames):
    engine = PlayEngine(load(folder), 1)
    slot = engine.sit(Start(first_frames, None, 11))
    want = rounds(engine, slot, 4)
    engine = PlayEngine(load(folder), 1, fps=1000.0)
    slot = engine.sit(Start(first_frames, None, 11))
    shown = rounds(engine, slot, 2)
    actions = engine._actions({0: slot.inputs.row()})
    engine._guess(actions, frozenset({0}))

    def model(*args):
        calls.append(1)
        return engine.world.model(*args)

    calls = []
    engine.use(model)
    shown = np.concatenate([shown, rounds(engine, slot, 2)])
    assert calls and engine.guess is None and (engine.hits, engine.misses) == (0, 0)
    assert np.array_equal(shown, want)


def test_a_recording_with_a_negative_number_of_eager_frames_is_refused(folder, first_frames, tmp_path):
    engine = PlayEngine(load(folder), 1)
    slot = engine.sit(Start(first_frames, None, 11))
    rounds(engine, slot, 1)
    slot.log.eager = -1
    keep(slot, tmp_path / "x.dream")
    with pytest.raises(VidarError, match="eager is out of range"):
        read(tmp_path / "x.dream")


def test_nothing_is_kept_of_a_world_that_was_never_compiled(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert kept(load(folder), 1, None) is False


def test_a_machine_without_a_compiler_plays_on_as_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # or what was compiled before is found there
    world = load(folder)
    assert may_compile(world)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not may_compile(world)
    with pytest.raises(UsageError, match="--no-compile"):
        world.rollout(1, compiled=True)


def test_a_process_that_fails_says_why_and_leaves_the_engine_as_it_is(folder, first_frames, tmp_path, capfd):
    engine = PlayEngine(load(folder), 1)
    with Compiling(engine, str(tmp_path / "nowhere")) as beside:
        beside.thread.join(SLOW)
        assert not beside.thread.is_alive() and beside.process.returncode != 0
    said = capfd.readouterr().err
    assert re.fullmatch(r"vidar: compiling failed \(.*/nowhere: no such world; .*\); the game goes on as it is\n", said)
    slot = engine.sit(Start(first_frames, None, 11))
    rounds(engine, slot, 1)
    assert not engine.compiled


def test_an_end_before_it_is_compiled_is_no_failure(folder, capfd):
    with Compiling(PlayEngine(load(folder), 1), str(folder)):
        pass
    assert not capfd.readouterr().err


@pytest.mark.slow
def test_a_world_is_compiled_beside_the_game_and_the_next_start_has_it(folder, first_frames, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    engine = PlayEngine(load(folder), 1)
    slot = engine.sit(Start(first_frames, None, 11))
    with Compiling(engine, str(folder)) as beside:
        shown = rounds(engine, slot, 2)
        beside.thread.join(SLOW)
    shown = np.concatenate([shown, rounds(engine, slot, 3)])
    assert engine.compiled and slot.log.eager == 2
    keep(slot, tmp_path / "x.dream")
    made = write_replay(tmp_path / "x.dream", tmp_path / "x.mp4", str(folder))
    assert made["frames_sha256"] == hashlib.sha256(shown.tobytes()).hexdigest()
    assert kept(load(folder), 1, None) and not kept(load(folder), 2, None)
