"""The start clips of a trained world: parts of the held-out episodes of its data."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from vidar.configs.shapes import world_shapes
from vidar.data.loader import ClipsConfig
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video, write_video
from vidar.model.load import load, read_index, save
from vidar.model.start_hashes import START, STARTS, start_hashes
from vidar.model.starts import COUNT, copy_starts, episode_clip, note_starts, start_samples, write_starts
from vidar.synth.starts import starts_of
from vidar.train.fit import export
from vidar.types import VidarError

CONTEXT = 4


@pytest.fixture
def folder(tmp_path):
    """A tiny world without start clips."""
    save(world_shapes(preset="tiny").method.world.replace(context=CONTEXT).build(), tmp_path / "world")
    return tmp_path / "world"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("starts") / "data"
    record(ShapesConfig(), None, place, episodes=2, frames=12)
    record(ShapesConfig(), None, place, episodes=3, frames=12, split="heldout", seed=100)
    return place


def test_they_are_parts_of_held_out_episodes(folder, data):
    write_starts(folder, data)
    files = [folder / START, *sorted((folder / STARTS).iterdir())]
    assert len(files) == COUNT and load(folder).start == folder / START
    held_out = [episode.frames.astype(int) for episode in episodes(data, "heldout")]
    found = set()
    for file in files:
        clip = read_video(file)[0].astype(int)
        assert clip.shape == (CONTEXT, 32, 32, 3)
        errors = {(n, t): np.abs(e[t : t + CONTEXT] - clip).mean() for n, e in enumerate(held_out) for t in range(9)}
        assert min(errors.values()) < 5  # of lossy video; the next best place is 10 away
        found.add(min(errors, key=lambda place: errors[place]))
    assert {number for number, _ in found} == {0, 1, 2} and len(found) > 4  # every episode, at different places


def test_without_held_out_episodes_they_are_of_all(tmp_path, folder):
    record(ShapesConfig(), None, tmp_path / "data", episodes=1, frames=3)
    write_starts(folder, tmp_path / "data")
    assert len(read_video(folder / START)[0]) == 1  # half of the episode, which is shorter than the context
    names = [episode.name for episode in episodes(tmp_path / "data", "train")]
    assert [sample.key for sample in start_samples(tmp_path / "data")] == names


def test_a_place_of_an_episode(data):
    sample = start_samples(data)[0]
    frames = next(episodes(data, "heldout")).frames
    for place, first in ((0.0, 0), (0.5, 2), (1.0, 4)):
        assert np.array_equal(episode_clip(sample, 4, place), frames[first : first + 4])


@pytest.mark.parametrize("frames", [4, 6, 99])
def test_no_clip_ends_where_its_episode_ends(data, frames):
    """As many frames as it has come after it: a game that is over does not go on."""
    sample, whole = start_samples(data)[0], next(episodes(data, "heldout")).frames
    clip = episode_clip(sample, frames, 1.0)
    after = len(clip)
    assert after == min(frames, 6) and np.array_equal(clip, whole[len(whole) - 2 * after : len(whole) - after])


def test_damaged_data_is_named_and_leaves_the_world_whole(tmp_path, folder):
    record(ShapesConfig(), None, tmp_path / "data", episodes=2, frames=6)
    (shard,) = (tmp_path / "data").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(VidarError, match=f"{shard.name}.*vidar data validate"):
        write_starts(folder, tmp_path / "data")
    assert load(folder).start is None and not (folder / STARTS).exists()


def test_a_copy_has_the_same(tmp_path, folder, data):
    (tmp_path / "copy").mkdir()
    copy_starts(folder, tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())
    write_starts(folder, data)
    copy_starts(folder, tmp_path / "copy")
    for file in (START, f"{STARTS}/01.mp4", f"{STARTS}/{COUNT - 1:02d}.mp4"):
        assert (tmp_path / "copy" / file).read_bytes() == (folder / file).read_bytes()


def swap(folder):
    for old, new in ((START, "x"), (f"{STARTS}/03.mp4", START), ("x", f"{STARTS}/03.mp4")):
        (folder / old).rename(folder / new)


def flip(folder):
    data = bytearray((folder / STARTS / "02.mp4").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / STARTS / "02.mp4").write_bytes(data)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (swap, "start.mp4: is not the start clip"),
        (flip, "02.mp4: is not the start clip"),
        (lambda folder: (folder / START).unlink(), "start.mp4: is missing"),
        (lambda folder: (folder / STARTS / "05.mp4").unlink(), "05.mp4: is missing"),
        (lambda folder: write_video(folder / STARTS / "zz.mp4", np.zeros((4, 32, 32, 3), np.uint8), 10), "not among"),
    ],
)
def test_a_clip_that_a_model_was_not_saved_with_is_named(folder, data, spoil, words):
    """By those who load the model and by the driver of `synth`, until the entry is removed."""
    write_starts(folder, data)
    note_starts(folder, folder)
    assert len(starts_of(folder, False).clips) == COUNT and load(folder).start is not None
    spoil(folder)
    for reader in (load, lambda folder: starts_of(folder, False)):
        with pytest.raises(VidarError, match=f"{words}.*remove the entries '_starts' and '_sha256'"):
            reader(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({k: index[k] for k in index.keys() - {"_starts", "_sha256"}}))
    load(folder)


def test_a_model_that_is_saved_again_keeps_its_clips_and_what_was_noted(tmp_path, folder, data):
    """A clip that was damaged meanwhile is still named; a model without clips has no entry."""
    note_starts(folder, tmp_path / "new")
    assert "_starts" not in read_index(folder)
    write_starts(folder, data)
    note_starts(folder, folder)
    flip(folder)
    save(world_shapes(preset="tiny").method.world.replace(context=CONTEXT).build(), tmp_path / "again")
    note_starts(tmp_path / "again", folder)
    copy_starts(folder, tmp_path / "again")
    with pytest.raises(VidarError, match=r"02\.mp4: is not the start clip"):
        load(tmp_path / "again")


class _World:
    """A training method whose weights are always the same."""

    origin = None

    def __init__(self, folder):
        self.folder = folder

    def export(self, averaged, directory):
        shutil.copytree(self.folder, directory, dirs_exist_ok=True)


class _Log:
    def __init__(self):
        self.events = []

    def event(self, event, step, **details):
        self.events.append((event, details))


@pytest.mark.parametrize("spoil", [flip, swap, lambda folder: (folder / STARTS / "05.mp4").unlink()])
def test_a_run_that_goes_on_makes_damaged_clips_again_and_says_so(tmp_path, folder, data, spoil):
    engine = SimpleNamespace(ranks=SimpleNamespace(rank=0), averaged=dict)
    config = SimpleNamespace(data=ClipsConfig(path=str(data), clip_frames=2, batch=1))
    counters = SimpleNamespace(step=3)
    state = SimpleNamespace(method=_World(folder), out=tmp_path, engine=engine, config=config, counters=counters)
    log = _Log()
    model = export(state, log)
    want = start_hashes(model)
    assert len(want) == COUNT and not log.events
    spoil(model)
    assert export(state, log) == model and start_hashes(model) == want and load(model).start is not None
    ((event, details),) = log.events
    assert event == "start clips are made again" and ".mp4: is" in details["reason"]
