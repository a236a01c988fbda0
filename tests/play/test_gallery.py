"""Starts to choose from: which there are, what is refused, and what a player gets."""

import io
import time

import numpy as np
import pytest
from PIL import Image
from play_client import Player, plays_on

from vidar.data.episode import Episode
from vidar.data.shards import ShardWriter
from vidar.data.video import write_video
from vidar.play import messages
from vidar.play.gallery import MOST, Gallery, folder_clips, own_clips, small_picture
from vidar.types import UsageError, VidarError


def frames(count, height=64, width=80):
    """Frame t is grey 10 t."""
    return np.stack([np.full((height, width, 3), 10 * t, np.uint8) for t in range(count)])


@pytest.mark.parametrize("count, ends", [(3, [3]), (4, [4]), (7, [7]), (8, [8, 4]), (14, [14, 9, 4])])
def test_the_worlds_own_clip_is_cut_where_it_is_long_enough(world, tmp_path, monkeypatch, count, ends):
    write_video(tmp_path / "start.mp4", frames(count), 10)
    monkeypatch.setattr(world, "start", tmp_path / "start.mp4")
    clips = [*Gallery(own_clips(world))]  # the world has 4 frames of context
    assert [round(clip[-1].mean() / 10) + 1 for clip in clips] == ends
    assert [len(clip) for clip in clips] == [min(4, count)] * len(ends)
    (tmp_path / "starts").mkdir()
    write_video(tmp_path / "starts" / "more.mp4", frames(3), 10)
    assert len(own_clips(world)) == len(ends) + 1


def test_a_folder_of_clips(world, tmp_path):
    for name, count in (("b", 9), ("a", 2)):
        write_video(tmp_path / f"{name}.mp4", frames(count), 10)
    (tmp_path / "._b.mp4").write_bytes(b"left by another system")
    clips = Gallery(folder_clips(world, tmp_path))
    assert [(len(clip), round(clip[-1].mean() / 10)) for clip in clips] == [(2, 1), (4, 8)]
    (tmp_path / "c.mp4").write_bytes(b"no video")
    with pytest.raises(VidarError, match=r"c\.mp4: cannot be read"):
        folder_clips(world, tmp_path)
    write_video(tmp_path / "c.mp4", frames(2, 32, 32), 10)
    with pytest.raises(VidarError, match=r"c\.mp4 is 32x32, this model is 80x64"):
        folder_clips(world, tmp_path)
    (tmp_path / "empty").mkdir()
    for folder, words in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "empty", "no video in it")):
        with pytest.raises(UsageError, match=f"{folder.name}: {words}; --starts needs"):
            folder_clips(world, folder)


def test_a_data_set_without_its_index_is_named(world, tmp_path):
    (tmp_path / "d-train-000000.tar").write_bytes(b"")
    with pytest.raises(VidarError, match=r"shards\.json: missing, so"):
        folder_clips(world, tmp_path)


def test_a_large_folder_is_read_only_as_far_as_it_is_looked_at(world, tmp_path):
    write_video(tmp_path / "0000.mp4", frames(5), 10)
    for number in range(1, MOST + 500):
        name = f"{number:04d}.{'MP4' if number % 2 else 'mp4'}"
        (tmp_path / name).hardlink_to(tmp_path / "0000.mp4") if number < 40 else (tmp_path / name).write_bytes(b"none")
    said = []
    gallery = Gallery(folder_clips(world, tmp_path, said.append), said.append)
    assert len(gallery) == MOST and said == [f"{tmp_path}: 1500 clips; 1000 of them are offered as starts"]
    assert len(gallery[1]) == 4 and gallery.picture(0) == small_picture(frames(5))
    for _ in range(2):  # said once
        assert gallery.picture(999) is None
    assert len(said) == 2 and "not offered as a start" in said[1] and "1498.mp4" in said[1]


def episode(world, count, first):
    """Frame t is grey 10 (first + t)."""
    video = frames(first + count)[first:]
    actions = np.zeros((count, world.config.spec.width), np.float32)
    return Episode(video, actions, world.config.fps, world.config.spec, f"from-{first}", "grey")


def test_a_data_set_offers_its_held_out_episodes(tmp_path, world):
    with ShardWriter(tmp_path, "train", world.config.spec) as writer:
        writer.write(episode(world, 12, 0))
    assert [round(clip[-1].mean() / 10) for clip in Gallery(folder_clips(world, tmp_path))] == [5]  # 2 .. 5 of 12
    with ShardWriter(tmp_path, "heldout", world.config.spec) as writer:
        for first, count in ((10, 3), (4, 4)):
            writer.write(episode(world, count, first))
    clips = [*Gallery(folder_clips(world, tmp_path))]
    assert [(len(clip), round(clip[-1].mean() / 10)) for clip in clips] == [(1, 10), (2, 5)]
    with pytest.raises(VidarError, match="is 80x64, this model is 40x32"):
        folder_clips(world.__class__(world.config.replace(height=32, width=40), world.tokenizer, world.net), tmp_path)


def test_small_pictures_are_of_the_last_frame():
    clip = frames(6, 360, 640)
    picture = np.asarray(Image.open(io.BytesIO(small_picture(clip))))
    assert picture.shape == (90, 160, 3) and abs(picture.mean() - 50) < 2
    assert np.asarray(Image.open(io.BytesIO(small_picture(frames(2))))).shape == (64, 80, 3)


def test_a_player_chooses_by_number_and_by_nothing_else(serve, first_frames):
    clips = [np.roll(first_frames, n, axis=1) for n in (1, 2)]
    served = serve(capacity=2, clips=clips)
    with Player(served.port) as player, Player(served.port) as stranger:
        assert player.hear("hello")["starts"] == stranger.hear("hello")["starts"] == 3
        player.picture(messages.START_PICTURE, lambda header: header.frame == 2)
        shown = [(header.frame, header.stamp, jpeg) for header, jpeg in player.pictures[messages.START_PICTURE]]
        assert shown == [(n, 3, small_picture(clip)) for n, clip in enumerate([first_frames, *clips])]
        slot = served.engine.slots[player.told["hello"]["seat"]]
        player.say("reset", seed=5, start=2)
        assert player.hear("seed") == {"t": "seed", "seed": 5, "start": 2}
        assert np.array_equal(slot.log.start.frames, clips[1]) and slot.log.start.seed == 5
        player.say("reset", seed=6)
        assert player.hear("seed")["start"] == 2
        time.sleep(1.1)  # resets are rationed
        player.say("reset", seed=6, start=0)
        player.hear("seed")
        assert np.array_equal(slot.log.start.frames, first_frames)
        stranger.throw('{"t":"reset","seed":1,"start":3}')
        assert stranger.end() == 1007
        assert plays_on(player)


def test_a_start_that_cannot_be_read_is_passed_over(serve, first_frames, capfd):
    def damaged():
        raise VidarError("b.mp4: is empty")

    served = serve(clips=[damaged, np.roll(first_frames, 1, axis=1)])
    with Player(served.port) as player:
        assert player.hear("hello")["starts"] == 3
        player.picture(messages.START_PICTURE, lambda header: header.frame == 2)
        assert [header.frame for header, _ in player.pictures[messages.START_PICTURE]] == [0, 2]
        assert capfd.readouterr().err == "vidar: not offered as a start: b.mp4: is empty\n"
        player.say("reset", seed=5, start=1)
        assert player.hear("seed")["start"] == 0  # the dream goes on as it is
        assert plays_on(player)


def test_one_start_is_no_choice(serve):
    served = serve(capacity=2)
    with Player(served.port) as player, Player(served.port) as stranger:
        assert player.hear("hello")["starts"] == 1
        player.frame(lambda header: header.frame > 3)
        assert not player.pictures
        stranger.hear("hello")
        stranger.throw('{"t":"reset","seed":1,"start":1}')
        assert stranger.end() == 1007
        assert plays_on(player)
