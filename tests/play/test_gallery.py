"""Starts to choose from: which there are, what is refused, and what a player gets."""

import io
import time

import numpy as np
import pytest
from PIL import Image
from play_client import Player, plays_on

from vidar.data.video import write_video
from vidar.play import messages
from vidar.play.gallery import folder_clips, own_clips, small_picture
from vidar.types import UsageError, VidarError


def frames(count, height=64, width=80):
    """Frame t is grey 10 t."""
    return np.stack([np.full((height, width, 3), 10 * t, np.uint8) for t in range(count)])


@pytest.mark.parametrize("count, ends", [(3, [3]), (4, [4]), (7, [7]), (8, [8, 4]), (14, [14, 9, 4])])
def test_the_worlds_own_clip_is_cut_where_it_is_long_enough(world, tmp_path, monkeypatch, count, ends):
    write_video(tmp_path / "start.mp4", frames(count), 10)
    monkeypatch.setattr(world, "start", tmp_path / "start.mp4")
    clips = own_clips(world)  # the world has 4 frames of context
    assert [round(clip[-1].mean() / 10) + 1 for clip in clips] == ends
    assert [len(clip) for clip in clips] == [min(4, count)] * len(ends)
    (tmp_path / "starts").mkdir()
    write_video(tmp_path / "starts" / "more.mp4", frames(3), 10)
    assert len(own_clips(world)) == len(ends) + 1


def test_a_folder_of_clips(world, tmp_path):
    for name, count in (("b", 9), ("a", 2)):
        write_video(tmp_path / f"{name}.mp4", frames(count), 10)
    assert [(len(clip), round(clip[-1].mean() / 10)) for clip in folder_clips(world, tmp_path)] == [(2, 1), (4, 8)]
    (tmp_path / "c.mp4").write_bytes(b"no video")
    with pytest.raises(VidarError, match=r"c\.mp4: cannot be read"):
        folder_clips(world, tmp_path)
    write_video(tmp_path / "c.mp4", frames(2, 32, 32), 10)
    with pytest.raises(VidarError, match=r"c\.mp4 is 32x32, this model is 80x64"):
        folder_clips(world, tmp_path)
    for folder, words in ((tmp_path / "nowhere", "no .mp4 file"), (tmp_path / "many", "25 .mp4 files")):
        if folder.name == "many":
            folder.mkdir()
            for number in range(25):
                (folder / f"{number}.mp4").touch()
        with pytest.raises(UsageError, match=f"{words} in it; --starts wants a folder with 1 to 24"):
            folder_clips(world, folder)


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
