"""A folder of recordings: names, captions, splits, going on after an interruption, and what is refused beforehand."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from numbered import NUMBER, converted, every, numbers, recording

from vidar.actions import ActionSpec
from vidar.data.convert import Conversion, convert_folder
from vidar.data.index import load_index
from vidar.data.names import episode_names
from vidar.data.reader import data_info, episodes, read_episode
from vidar.data.shards import ShardWriter
from vidar.data.validate import validate
from vidar.types import UsageError, VidarError

HOW = Conversion(spec=NUMBER, fps=20)
PLAIN = Conversion(fps=20)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A recording of 12 frames."""
    file = tmp_path_factory.mktemp("one") / "a.mp4"
    recording(file, every(12))
    return file


@pytest.fixture
def folder(tmp_path, one):
    """Copies of one recording under other names, each with a byte of its own at the end: folder("a.mp4", "b.mp4")."""

    def make(*names, place="in", table=True, same=False):
        where = tmp_path / place
        where.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            data = one.read_bytes() + b"" if same else one.read_bytes() + b"\0\0\0\x09free" + bytes([number])
            (where / name).write_bytes(data)
            if table:
                shutil.copy(one.with_suffix(".csv"), where / f"{os.path.splitext(name)[0]}.csv")
        return where

    return make


def test_names_are_distinct_on_every_file_system():
    stems = ["a b", "a_b", "A_B", "run.1", "x" * 75 + "1", "x" * 75 + "2", "\u65e5\u672c", "\u4e2d\u56fd", "Run"]
    names = episode_names(stems, [1] * len(stems), taken=())
    suffix = {stem: "-" + hashlib.sha256(stem.encode()).hexdigest()[:8] for stem in stems}
    assert names[0] == "a_b" + suffix["a b"] and names[3] == "run_1" and names[8] == "Run"
    assert names[4:6] == ["x" * 61 + suffix[stem] for stem in stems[4:6]]
    assert names[6:8] == ["__" + suffix[stem] for stem in stems[6:8]]
    assert len({name.casefold() for name in names}) == len(names) and max(map(len, names)) == 70
    for order in np.random.default_rng(0).permuted(np.tile(np.arange(9), (5, 1)), axis=1):
        again = episode_names([stems[n] for n in order], [1] * 9, taken=())
        assert again == [names[n] for n in order]


def test_names_leave_room_for_pieces_and_for_what_is_there():
    first, second, third = episode_names(["a", "a_0001", "B"], [3, 1, 1], taken=["b"])
    assert first == "a" and second.startswith("a_0001-") and third.startswith("B-")
    with pytest.raises(VidarError, match="rename the file"):
        episode_names(["B"], [1], taken=["b", third])


def test_names_of_every_kind_are_converted_and_kept(folder, tmp_path):
    names = ["a b.mp4", "a_b.MP4", "\u65e5\u672c.mov", "\u4e2d\u56fd.mkv", "x" * 75 + "1.mp4", "x" * 75 + "2.mp4"]
    made = convert_folder(folder(*names), tmp_path / "out", HOW)
    found = list(episodes(tmp_path / "out", "train"))
    assert sorted(episode.meta["file"] for episode in found) == sorted(names) and made.episodes == 6
    assert all(numbers(episode.frames) == list(range(12)) for episode in found) and validate(tmp_path / "out").ok


def test_files_that_are_passed_over_are_told(folder, tmp_path):
    where = folder("a.MP4", "._a.mp4", ".b.mp4")
    for name in ("c.csv", "notes.txt", "d.wmv", "actions.yaml", ".DS_Store"):
        (where / name).write_text("x")
    (where / "more").mkdir()
    told = []
    made = convert_folder(where, tmp_path / "out", HOW, say=told.append)
    assert made.episodes == 1 and len(told) == 1 and "passed over" in told[0] and "and 3 more" in told[0]
    assert set(made.passed_over) == {
        *("._a.mp4", ".b.mp4", "._a.csv", ".b.csv"), *("c.csv", "notes.txt", "d.wmv", "more/")
    }  # fmt: skip


@pytest.mark.parametrize(
    "names, remove, add, message",
    [
        (["a.mp4", "a.MOV"], (), (), r"a\.mp4: has the same name as a\.MOV"),
        (["a.mp4"], (), ["a.jsonl"], r"a\.jsonl: has the same name as a\.csv"),
        (["e\u0301.mp4", "\u00e9.mp4"], (), (), "has the same name as"),
        (["a.mp4", "b.mp4"], ["b.csv"], (), r"b\.csv: missing; b\.mp4 needs a table of its actions"),
        (["a.mp4"], ["a.mp4"], (), "contains no .mp4"),
    ],
)
def test_doubtful_folders_are_refused(folder, tmp_path, names, remove, add, message):
    where = folder(*names)
    for name in remove:
        (where / name).unlink()
    for name in add:
        (where / name).write_text("{}")
    with pytest.raises(VidarError, match=message):
        convert_folder(where, tmp_path / "out", HOW)
    assert not (tmp_path / "out").exists()


def make(file, kind):
    """Put something else in place of a file."""
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(file.name if kind == "loop" else "nowhere")


@pytest.mark.parametrize(
    "kind, what", [("folder", "a folder"), ("pipe", "not a regular file"), ("loop", "a link"), ("gone", "a link")]
)
def test_what_only_has_the_name_of_a_file_is_refused(folder, tmp_path, kind, what):
    """Nothing is lost unnoticed, and a pipe is not waited for."""
    where = folder("a.mp4", "b.mp4")
    make(where / "b.mp4", kind)
    with pytest.raises(
        VidarError, match=rf"b\.mp4: has the name of a video, but is {what}.*; restore the video, or move"
    ):
        convert_folder(where, tmp_path / "out", HOW)
    where = folder("c.mp4", place="more")
    make(where / "c.csv", kind)
    with pytest.raises(VidarError, match=r"c\.csv: (cannot be read|is not a regular file)"):
        convert_folder(where, tmp_path / "out", HOW)


def test_every_file_is_checked_before_anything_is_written(folder, tmp_path):
    where = folder("a.mp4", "b.mp4")
    recording(where / "c.mp4", every(12), height=48)
    with pytest.raises(VidarError, match=r"c\.mp4: is 48 x 64 pixels, .*a\.mp4 is 32 x 64; give --height and --width"):
        convert_folder(where, tmp_path / "out", HOW)
    (where / "c.mp4").write_bytes((where / "c.mp4").read_bytes()[:-400])
    with pytest.raises(VidarError, match=r"c\.mp4"):
        convert_folder(where, tmp_path / "out", HOW)
    recording(where / "c.mp4", [0])
    with pytest.raises(VidarError, match=r"c\.mp4: has 1 frame; at least 2"):
        convert_folder(where, tmp_path / "out", HOW)
    with pytest.raises(VidarError, match="no such folder"):
        convert_folder(tmp_path / "none", tmp_path / "out", HOW)
    with pytest.raises(UsageError, match="out: lies in .*, which is read; give a folder outside of it"):
        convert_folder(where, where / "out", HOW)
    (tmp_path / "file").write_text("x")
    with pytest.raises(VidarError, match="file: is a file, but convert writes a folder"):
        convert_folder(where, tmp_path / "file" / "out", HOW)
    assert not (tmp_path / "out").exists()


def test_long_videos_become_several_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr("vidar.data.convert.PIECE", 8)
    recording(tmp_path / "in" / "my clip.mp4", every(25))
    found = converted(tmp_path / "in", tmp_path / "out", fps=20)
    assert [(e.name, numbers(e.frames)[0], e.meta["start_frame"]) for e in found] == [
        (f"my_clip_{n:04d}", 8 * n, 8 * n) for n in range(3)
    ]
    for episode in found:
        assert numbers(episode.frames)[1:] == episode.actions[1:, 0].tolist() and len(episode.frames) == 8
    assert data_info(tmp_path / "out").frames == 24  # a last piece of one frame has no action


def test_large_frames_make_short_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr("vidar.data.convert.MEMORY", 10 * 3 * 32 * 64)
    recording(tmp_path / "in" / "a.mp4", every(25))
    assert [len(e.frames) for e in converted(tmp_path / "in", tmp_path / "out", fps=20)] == [10, 10, 5]
    assert [len(e.frames) for e in converted(tmp_path / "in", tmp_path / "s", fps=20, size=(16, 32))] == [25]


def test_a_size(tmp_path):
    recording(tmp_path / "in" / "a.mp4", every(12), height=64)
    (episode,) = converted(tmp_path / "in", tmp_path / "out", fps=20, size=(16, 32))
    assert episode.frames.shape == (12, 16, 32, 3) and numbers(episode.frames) == list(range(12))


def test_a_second_converter_is_refused_before_it_reads_a_video(folder, tmp_path, monkeypatch):
    where = folder("a.mp4", "b.mp4")
    monkeypatch.setattr("vidar.data.convert.video_info", None)  # to read a video fails
    for split, heldout in (("train", 0.0), ("heldout", 0.5)):
        with ShardWriter(tmp_path / "out", split, HOW.spec):
            with pytest.raises(UsageError, match=f"out: another process is writing split '{split}' there; wait for"):
                convert_folder(where, tmp_path / "out", HOW, heldout=heldout)
    assert not [*(tmp_path / "out").iterdir()]


class Stop(Exception):
    pass


def test_an_interrupted_conversion_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("vidar.data.convert.PIECE", 5)
    for name in "abc":
        recording(tmp_path / "in" / f"{name}.mp4", every(14))
    whole = convert_folder(tmp_path / "in", tmp_path / "whole", HOW)
    assert (whole.episodes, whole.kept) == (9, 0)

    def stop(done, total):
        assert total == 6
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        convert_folder(tmp_path / "in", tmp_path / "out", HOW, progress=stop)
    assert data_info(tmp_path / "out").episodes == 6
    told = []
    made = convert_folder(tmp_path / "in", tmp_path / "out", HOW, say=told.append)
    assert (made.episodes, made.kept) == (3, 2) and "2 of 3 recordings are there already" in told[0]
    for one, other in zip(episodes(tmp_path / "whole", "train"), episodes(tmp_path / "out", "train"), strict=True):
        assert one.name == other.name and np.array_equal(one.frames, other.frames) and one.meta == other.meta
    assert convert_folder(tmp_path / "in", tmp_path / "out", HOW, resume=True).episodes == 0


def test_half_a_recording_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("vidar.data.convert.PIECE", 5)
    recording(tmp_path / "in" / "a.mp4", every(14))
    write = __import__("vidar.data.shards", fromlist=["x"]).ShardWriter.write

    def once(writer, episode):
        if episode.name == "a_0002":
            raise Stop
        write(writer, episode)

    with monkeypatch.context() as patch:
        patch.setattr("vidar.data.shards.ShardWriter.write", once)
        with pytest.raises(Stop):
            convert_folder(tmp_path / "in", tmp_path / "out", HOW)
    assert convert_folder(tmp_path / "in", tmp_path / "out", HOW).episodes == 1
    found = list(episodes(tmp_path / "out", "train"))
    assert [n for episode in found for n in numbers(episode.frames)] == list(range(14))


def test_a_split_of_other_recordings_is_added_to_only_if_said(folder, tmp_path):
    convert_folder(folder("a.mp4"), tmp_path / "out", HOW)
    where = folder("x.mp4", "b.mp4", place="more")  # b has other bytes than a
    (where / "x.mp4").unlink(), (where / "x.csv").unlink()
    with pytest.raises(VidarError, match="split 'train' holds 1 episodes of other recordings, .* --resume keeps them"):
        convert_folder(where, tmp_path / "out", HOW)
    made = convert_folder(where, tmp_path / "out", HOW, resume=True)
    assert made.episodes == 1 and [e.name for e in episodes(tmp_path / "out", "train")] == ["a", "b"]


def test_a_changed_recording_is_refused(folder, tmp_path):
    where = folder("a.mp4", "b.mp4")
    convert_folder(where, tmp_path / "out", HOW)
    before = (tmp_path / "out" / "shards.json").read_bytes()
    table = (where / "b.csv").read_text()
    (where / "b.csv").write_text(table.replace("11\n", "12\n"))
    with pytest.raises(VidarError, match=r"b\.mp4: .* holds this video with another table or caption, or .*options"):
        convert_folder(where, tmp_path / "out", HOW)
    (where / "b.csv").write_text(table)
    with pytest.raises(VidarError, match=r"a\.mp4: .* converted with other options"):
        convert_folder(where, tmp_path / "out", HOW.replace(stamps="count"))
    (where / "b.mp4").write_bytes((where / "b.mp4").read_bytes() + b"x")
    with pytest.raises(VidarError, match=r"b\.mp4: .* holds another video of this name"):
        convert_folder(where, tmp_path / "out", HOW, resume=True)
    assert (tmp_path / "out" / "shards.json").read_bytes() == before


def test_one_content_is_in_one_split(folder, tmp_path):
    convert_folder(folder("a.mp4"), tmp_path / "out", HOW)
    where = folder("b.mp4", place="more")
    with pytest.raises(
        VidarError, match=r"b\.mp4: has the same content as a\.mp4 in split 'train' .* for split 'test'"
    ):
        convert_folder(where, tmp_path / "out", HOW, "test")
    other = folder("x.mp4", "a.mp4", place="test")  # the name of a, another content
    (other / "x.mp4").unlink(), (other / "x.csv").unlink()
    assert convert_folder(other, tmp_path / "out", HOW, "test").episodes == 1
    assert load_index(tmp_path / "out").splits() == ("train", "test")


def test_held_out_recordings(folder, tmp_path):
    where = folder(*(f"g{n:02d}.mp4" for n in range(10)))
    shutil.copy(where / "g03.mp4", where / "z.mp4"), shutil.copy(where / "g03.csv", where / "z.csv")
    made = convert_folder(where, tmp_path / "out", HOW, heldout=0.2)
    names = {split: {e.name for e in episodes(tmp_path / "out", split)} for split in ("train", "heldout")}
    order = sorted((f"g{n:02d}" for n in range(10)), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    wanted = {*order[:2]} | ({"z"} if "g03" in order[:2] else set())
    assert names["heldout"] == wanted and len(names["train"]) == 11 - len(wanted)
    assert (made.episodes, made.heldout) == (11, len(wanted))
    shutil.copy(where / "g03.csv", where / "new.csv")
    (where / "new.mp4").write_bytes((where / "g03.mp4").read_bytes() + b"new")
    again = convert_folder(where, tmp_path / "out", HOW, heldout=0.2)
    assert (again.kept, again.episodes) == (11, 1)
    assert {e.name for e in episodes(tmp_path / "out", "heldout")} == wanted  # 0.2 * 11 rounds to 2
    for share, split, error in ((0.5, "heldout", UsageError), (1.0, "train", UsageError), (-0.1, "train", UsageError)):
        with pytest.raises(error, match="--heldout"):
            convert_folder(where, tmp_path / "no", HOW, split, heldout=share)
    with pytest.raises(VidarError, match="at least 2 different recordings"):
        convert_folder(folder("a.mp4", place="single"), tmp_path / "no", HOW, heldout=0.5)


def test_data_of_another_kind_is_refused_before_anything_is_decoded(folder, tmp_path):
    where = folder("a.mp4")
    convert_folder(where, tmp_path / "out", HOW)
    with pytest.raises(VidarError, match="out: holds data at 20 fps, these recordings give 10"):
        convert_folder(where, tmp_path / "out", HOW.replace(every=2), "test")


def test_captions_beside_videos(folder, tmp_path):
    where = folder("a.mp4", "b.mp4", table=False)
    (where / "a.txt").write_text("\ufeffa red door\n", encoding="utf-8")
    with pytest.raises(VidarError, match=r"b\.mp4: has no caption, but other videos of the folder have one; .* b\.txt"):
        convert_folder(where, tmp_path / "out", PLAIN)
    (where / "b.txt").write_text(" \n")
    with pytest.raises(VidarError, match=r"b\.txt: is empty"):
        convert_folder(where, tmp_path / "out", PLAIN)
    (where / "b.txt").write_bytes("t\u00fcr".encode("latin-1"))
    with pytest.raises(VidarError, match=r"b\.txt: is not UTF-8 text"):
        convert_folder(where, tmp_path / "out", PLAIN)
    for text in ("a\0door", "\x1b[31mdoor", "a door\x7f"):
        (where / "b.txt").write_text(text)
        with pytest.raises(VidarError, match=r"b\.txt: character \d+ of the caption is .*, which no text holds"):
            convert_folder(where, tmp_path / "out", PLAIN)
    (where / "b.txt").write_text("eine T\u00fcr", encoding="utf-8")
    convert_folder(where, tmp_path / "out", PLAIN)
    found = list(episodes(tmp_path / "out", "train"))
    assert [episode.caption for episode in found] == ["a red door", "eine T\u00fcr"]
    assert found[0].actions.shape == (12, 0) and validate(tmp_path / "out").ok


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_of_a_whole_folder(folder, tmp_path, kind):
    where = folder("a.mp4", "b.MP4", table=False)
    rows = [("b.MP4", 'a "blue" door, open'), ("a.mp4", "a red door")]

    def write(rows, column="text"):
        lines = [json.dumps({"file_name": name, column: text}) for name, text in rows]
        if kind == "csv":
            lines = [f"file_name,{column}", *(f'{name},"{text.replace(chr(34), 2 * chr(34))}"' for name, text in rows)]
        (where / f"metadata.{kind}").write_text("\n".join(lines) + "\n")

    first = 2 if kind == "csv" else 1
    for bad, message in (
        (rows[:1], r"a\.mp4: has no caption, .* or a line in metadata\." + kind),
        ([*rows, ("c.mp4", "x")], f"line {first + 2}: 'c.mp4' is not the name of a video"),
        ([*rows, rows[0]], rf"line {first + 2}: a second caption of b\.MP4"),
        ([rows[0], ("a.mp4", " ")], rf"line {first + 1}: the caption of a\.mp4 is empty"),
        ([rows[0], ("a.mp4", "a\x01b")], rf"metadata\.{kind}: line {first + 1}: character 1 of the caption is '.x01'"),
    ):
        write(bad)
        with pytest.raises(VidarError, match=message):
            convert_folder(where, tmp_path / "out", PLAIN)
    write(rows, "words")
    with pytest.raises(VidarError, match="header is file_name, words; expected file_name and one of text and caption"):
        convert_folder(where, tmp_path / "out", PLAIN)
    for column in ("text", "caption"):
        write(rows, column)
        convert_folder(where, tmp_path / column, PLAIN)
        assert read_episode(tmp_path / column, "train", "a").caption == rows[1][1]
        assert read_episode(tmp_path / column, "train", "b").caption == rows[0][1]
    (where / "a.txt").write_text("another")
    with pytest.raises(VidarError, match=r"a\.txt: .* holds a caption of a\.mp4 too"):
        convert_folder(where, tmp_path / "out", PLAIN)


def test_actions_and_captions_together_and_actions_without_a_spec(folder, tmp_path):
    where = folder("a.mp4")
    (where / "a.txt").write_text("a count")
    with pytest.raises(VidarError, match=r"a\.csv: holds actions; give --spec"):
        convert_folder(where, tmp_path / "out", PLAIN)
    (episode,) = converted(where, tmp_path / "out", fps=20)
    assert episode.caption == "a count" and numbers(episode.frames)[1:] == episode.actions[1:, 0].tolist()
    with pytest.raises(VidarError, match="holds data with other actions"):
        (where / "a.csv").unlink()
        converted(where, tmp_path / "out", "test", spec=ActionSpec(), fps=20)
