"""A world that plays without its memory: what it shows, and that its recordings know of it."""

import hashlib
import time

import numpy as np
import pytest
import torch
from remembering import remembering

from vidar.data.video import write_video
from vidar.model.files import GenerateRequest, write
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.model.start_hashes import START
from vidar.play.engine import PlayEngine, Start
from vidar.play.recording import keep, read
from vidar.play.replay import write_replay
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.workers import LocalWorkers
from vidar.types import UsageError, VidarError

KEYS = np.eye(5, dtype=np.float32)[[2, 0, 2, 2, 1, 2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, first_frames):
    made = tmp_path_factory.mktemp("models") / "remembering"
    save(remembering(), made, dtype=torch.float32)
    return made


def played(world, frames):
    """A slot that has played KEYS, and what it showed."""
    engine = PlayEngine(world, 1)
    slot, shown = engine.sit(Start(frames, None, 3)), []
    for row in KEYS:
        slot.press(row)
        slot.asked = time.monotonic()
        engine.round()
        shown.append(slot.shown.frame.copy())
    return slot, np.stack(shown)


def dreamed(world, frames):
    """The same, from a rollout."""
    streams = world.rollout(1)
    streams.begin(0, frames, None, 3)
    return np.stack([streams.decode(streams.frame(torch.from_numpy(row)[None]))[0].numpy() for row in KEYS])


def test_a_play_without_memory_is_a_rollout_of_a_world_that_has_none(folder, first_frames):
    whole, without = load(folder), load(folder, memory=False)
    bare = VideoModel(whole.config, whole.tokenizer, whole.net)
    slot, shown = played(without, first_frames)
    assert np.array_equal(shown, dreamed(bare, first_frames)) and slot.charted is None
    assert np.array_equal(shown, dreamed(whole.without_memory(), first_frames))
    remembered = played(whole, first_frames)[1]
    assert not np.array_equal(shown, remembered) and np.array_equal(remembered, dreamed(whole, first_frames))
    assert whole.memory is not None and whole.without_memory().config == whole.config


def test_a_replay_knows_whether_it_had_a_memory(folder, first_frames, tmp_path):
    for memory in (True, False):
        slot, shown = played(load(folder, memory=memory), first_frames)
        file = tmp_path / f"{memory}.dream"
        keep(slot, file)
        assert read(file).told["memory"] is memory
        made = write_replay(file, tmp_path / f"{memory}.mp4", str(folder))
        assert made["memory"] is memory
        assert made["frames_sha256"] == hashlib.sha256(shown.tobytes()).hexdigest()
    other = tmp_path / "other"
    model = load(folder)
    with torch.no_grad():
        next(model.memory.parameters()).add_(0.1)
    save(model, other, dtype=torch.float32)
    with pytest.raises(VidarError, match="with other weights"):  # the memory is part of the world
        write_replay(tmp_path / "True.dream", tmp_path / "x.mp4", str(other))


def test_the_fingerprint_tells_with_from_without(folder):
    assert fingerprint(load(folder)) != fingerprint(load(folder, memory=False))
    assert fingerprint(load(folder).without_memory()) == fingerprint(load(folder, memory=False))


def test_a_world_without_a_memory_says_so(tiny):
    for call in (tiny.without_memory, lambda: load("doom", memory=False)):
        with pytest.raises(UsageError, match=r"^model 'doom' has no memory; leave --no-memory out$"):
            call()


def test_generate_and_synth_take_it(folder, first_frames, tmp_path):
    """Their files say so, and synth goes on as it began."""
    write_video(tmp_path / START, first_frames, 17.5)
    asked = []

    def place(*words, **options):
        asked.append(options)
        return LocalWorkers(*words, **options)

    common = {"model": str(folder), "context": str(tmp_path / START), "frames": 3}
    for no_memory in (False, True):
        made = write(GenerateRequest(**common, out=str(tmp_path / f"{no_memory}.mp4"), no_memory=no_memory))
        assert made["arguments"]["no_memory"] is no_memory
    assert (tmp_path / "True.mp4").read_bytes() != (tmp_path / "False.mp4").read_bytes()
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(f'{{"id": "a", "frames": 3, "seed": 1, "context": "{tmp_path / START}"}}\n')
    request = SynthRequest(model=str(folder), jobs=str(jobs), out=str(tmp_path / "out"), no_memory=True)
    made = synthesise(request, place=place)
    assert made["done"] == 1 and made["no_memory"] is True and asked == [{"memory": False}]
    assert made["weights"] == fingerprint(load(folder, memory=False))
    again = synthesise(request.replace(no_memory=None), place=place)  # as the videos in it were made
    assert again["no_memory"] is True and again["done"] == 1
