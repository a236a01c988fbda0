"""The start clips of a trained world: parts of the held-out episodes of its data."""

import numpy as np
import pytest

from vidar.configs.shapes import world_shapes
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video
from vidar.model.load import START, STARTS, load, save
from vidar.model.starts import COUNT, copy_starts, episode_clip, start_samples, write_starts
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
