"""A played dream is a file, and the file is the dream."""

import json
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidar.play.engine import PlayEngine, Start
from vidar.play.recording import keep, read, replay
from vidar.types import VidarError


def start(seed, known=True):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (6, 64, 80, 3), dtype=np.uint8)  # more than the world's context
    return Start(frames, rng.integers(0, 2, (6, 5)).astype(np.float32) if known else None, seed)


@pytest.mark.parametrize("known", [True, False])
def test_a_replay_is_the_played_dream_bit_for_bit(world, tmp_path, known):
    """Another player is there, keys change, the dream is speculated on, and the governor lowers its steps."""
    rng, seen = np.random.default_rng(0), {}
    with PlayEngine(world, 2, fps=40.0) as engine:
        other, slot = engine.sit(start(7)), engine.sit(start(1, known))
        number = None
        for turn in range(12):
            slot.press(rng.integers(0, 2, 5).astype(np.float32))
            other.press(rng.integers(0, 2, 5).astype(np.float32))
            other.newest(None, timeout=20)
            shown = slot.newest(number, timeout=20)
            number = shown.number
            seen[number] = shown.frame
            if turn == 5:
                engine.governor.steps = 1
        slot.pause(True)
        made = keep(slot, tmp_path / "a.dream")
    stored = read(tmp_path / "a.dream")
    assert stored.told == made.told and np.array_equal(stored.actions, made.actions)
    assert (stored.told["seed"], stored.told["capacity"], stored.told["row"]) == (1, 2, 1)
    frames = dict(enumerate(replay(world, stored), 1))
    assert set(stored.steps.tolist()) == {1, 2}
    assert len(frames) == len(made.actions) >= 12 and len(seen) >= 10
    assert all(np.array_equal(frame, frames[number]) for number, frame in seen.items())
    assert not np.array_equal(frames[3], frames[4])


@pytest.mark.parametrize("eager", [0, 1, 4])
def test_a_replay_goes_over_to_compiled_calls_with_the_frame_with_which_the_engine_did(
    world, tmp_path, monkeypatch, eager
):
    """What stands for compiled calls answers differently, so that one frame early or late is another dream."""

    def louder(*arguments):
        return world.model(*arguments) * 1.05

    engine, shown = PlayEngine(world, 1), []
    slot = engine.sit(start(1))
    for number, row in enumerate(np.random.default_rng(0).integers(0, 2, (6, 5)).astype(np.float32)):
        if number == eager:
            engine.use(louder)
        slot.press(row)
        slot.asked = time.monotonic()
        engine.round()
        shown.append(slot.shown.frame.copy())
    assert keep(slot, tmp_path / "a.dream").told["eager"] == eager
    monkeypatch.setattr(type(world), "compiled", lambda self, build=None: louder)
    stored = read(tmp_path / "a.dream")
    assert np.array_equal(np.stack(list(replay(world, stored))), np.stack(shown))
    for other in {0, 1, 2, 4, 5} - {eager}:
        stored.told["eager"] = other
        assert not np.array_equal(np.stack(list(replay(world, stored))), np.stack(shown)), other


def test_what_is_no_recording_is_one_line(world, tmp_path):
    (tmp_path / "text").write_text("frames")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    for name, words in (("text", "cannot be read"), ("nowhere", "cannot be read"), ("other", "lacks schema, world")):
        with pytest.raises(VidarError, match=rf"{name}: {words}"):
            read(tmp_path / name)
    slot = PlayEngine(world, 1).sit(start(1))
    made = keep(slot, tmp_path / "empty")
    parts = {"context": torch.zeros(1), "actions": torch.zeros(2, 5), "steps": torch.ones(2, dtype=torch.int16)}
    save_file(parts, tmp_path / "huge", metadata={"vidar": json.dumps({**made.told, "capacity": 10**9})})
    with pytest.raises(VidarError, match="huge: row or capacity is out of range"):
        read(tmp_path / "huge")
    for steps in (torch.ones(3, dtype=torch.int16), torch.ones(2), torch.tensor([0, 1]), torch.tensor([1, 1001])):
        save_file({**parts, "steps": steps}, tmp_path / "steps", metadata={"vidar": json.dumps(made.told)})
        with pytest.raises(VidarError, match="steps: 2 frames need as many numbers of steps, 1 to 1000"):
            read(tmp_path / "steps")
    assert list(replay(world, made)) == []
    with torch.no_grad():
        next(iter(world.net.parameters())).add_(1e-3)
    with pytest.raises(VidarError, match="with other weights"):
        next(replay(world, read(tmp_path / "empty")))
