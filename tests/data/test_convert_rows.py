"""The row of a table belongs to the frame that it says, at any rate; a doubtful table is refused by its line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numbered import NUMBER, converted, every, numbers, recording

from vidar.actions import Action, ActionSpec, mu_law_bins, mu_law_degrees
from vidar.data.convert import Conversion, convert_folder
from vidar.data.rates import kept_frames
from vidar.data.rows import actions_of_frames, frames_of_rows
from vidar.data.tables import Table, read_table
from vidar.types import UsageError, VidarError

KINDS = ActionSpec(
    actions=(
        Action(name="fire"),
        Action(name="weapon", kind="choice", size=4),
        Action(name="yaw", kind="camera", size=11, noop=5),
        Action(name="gas", kind="continuous", low=0, high=10),
    )
)


def in_step(episode):
    """Whether every action says the number of its frame, and each piece follows the one before it."""
    return numbers(episode.frames)[1:] == episode.actions[1:, 0].tolist()


def test_a_clock_that_drifts_keeps_every_frame_with_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr("vidar.data.convert.PIECE", 150)
    recording(tmp_path / "in" / "a.mp4", np.cumsum([53] * 300 + [47] * 300) - 53)
    found = converted(tmp_path / "in", tmp_path / "out", fps=20)
    assert [numbers(episode.frames)[0] for episode in found] == [0, 150, 300, 450]
    assert all(in_step(episode) and len(episode.frames) == 150 for episode in found)


@pytest.mark.parametrize("options", [{"rows": "every"}, {}])
def test_one_row_per_frame(tmp_path, options):
    recording(tmp_path / "in" / "a.mp4", every(20), "number\n4999\n" + "".join(f"{n}\n" for n in range(1, 20)))
    (episode,) = converted(tmp_path / "in", tmp_path / "out", fps=20, **options)
    assert in_step(episode) and len(episode.frames) == 20 and episode.actions[0] == 0


def test_rows_between_frames_have_to_be_said(tmp_path):
    recording(tmp_path / "in" / "a.mp4", every(20), "number\n" + "".join(f"{n}\n" for n in range(1, 20)))
    for options, message in (
        ({}, "19 rows for 20 frames; if each row is the action between two frames, say --rows between"),
        ({"rows": "every"}, "19 rows for 20 frames; --rows every needs 20"),
    ):
        with pytest.raises(VidarError, match=r"a\.csv: " + message):
            converted(tmp_path / "in", tmp_path / "out", fps=20, **options)
        assert not (tmp_path / "out").exists()
    (episode,) = converted(tmp_path / "in", tmp_path / "out", fps=20, rows="between")
    assert in_step(episode) and len(episode.frames) == 20


def test_rows_taken_at_frames(tmp_path):
    """Row t is the action that leads from frame t to frame t + 1; the last row leads to no frame and is not read."""
    recording(tmp_path / "in" / "a.mp4", every(20), "number\n" + "".join(f"{n}\n" for n in range(1, 20)) + "-7\n")
    (episode,) = converted(tmp_path / "in", tmp_path / "out", fps=20, rows="at")
    assert in_step(episode) and len(episode.frames) == 20 and episode.actions[0] == 0
    (episode,) = converted(tmp_path / "in", tmp_path / "slow", fps=20, rows="at", every=3)
    assert numbers(episode.frames) == [*range(0, 20, 3)] == [0, *episode.actions[1:, 0].tolist()]  # of three the latest
    (tmp_path / "in" / "a.csv").write_text("number\n" + "1\n" * 19)
    with pytest.raises(VidarError, match="19 rows for 20 frames; --rows at needs 20"):
        converted(tmp_path / "in", tmp_path / "other", fps=20, rows="at")


def test_columns_frame_and_time_say_where_a_row_belongs(tmp_path):
    recording(tmp_path / "in" / "a.mp4", every(20), "frame,number\n" + "".join(f"{n},{n}\n" for n in range(1, 20)))
    times = [f"{n - 0.2},{0.05 * n - 0.01:.3f}\n" for n in range(20)]
    spec = ActionSpec(actions=(Action(name="number", kind="continuous", low=-1, high=100),))
    (episode,) = converted(tmp_path / "in", tmp_path / "frame", fps=20)
    assert in_step(episode) and len(episode.frames) == 20
    (tmp_path / "in" / "a.csv").write_text("number,time\n" + "".join(times))
    (episode,) = converted(tmp_path / "in", tmp_path / "time", spec=spec, fps=20)
    np.testing.assert_allclose(episode.actions[1:, 0] + 0.2, numbers(episode.frames)[1:], atol=1e-5)
    with pytest.raises(VidarError, match="its column `time` says where the rows belong; leave out --rows every"):
        converted(tmp_path / "in", tmp_path / "other", spec=spec, fps=20, rows="every")


def table_of(places, by):
    count = len(places)
    return Table("t.csv", np.zeros((count, 1)), range(2, count + 2), "line", by, np.array(places, float))


@pytest.mark.parametrize(
    "by, places, message",
    [
        ("frame", [0, 1, 2, 20], r"line 5: frame 20 is not one of 0 \.\. 19"),
        ("frame", [0, 1.5], r"line 3: frame 1\.5"),
        ("frame", [0, float("nan")], "line 3: frame nan"),
        ("frame", [0, 1, 1], "line 4: frame 1 comes after frame 1"),
        ("time", [0, 0.05, 1000], "line 4: time 1000 is outside the video"),
        ("time", [-3, 0.05], "line 2: time -3 is outside"),
        ("time", [0, 0.1, 0.05], "line 4: time 0.05 is before the 0.1 of the row above"),
    ],
)
def test_places_that_cannot_be_are_refused_by_line(by, places, message):
    with pytest.raises(VidarError, match=r"t\.csv: " + message):
        frames_of_rows(table_of(places, by), np.arange(20) / 20, None)


def test_times_find_the_frame_that_shows_the_row_first():
    times = np.array([0, 0.016, 0.049, 0.1, 0.184])
    rows = frames_of_rows(table_of([0, 0.001, 0.0161, 0.02, 0.09, 0.1, 0.15, 0.19], "time"), times, None)
    assert rows.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]  # up to 8 ms late, a quarter of the middle step


def test_a_frame_without_a_row_is_named(tmp_path):
    recording(tmp_path / "in" / "a.mp4", every(6), "frame,number\n1,1\n2,2\n5,5\n")
    with pytest.raises(VidarError, match=r"a\.csv: no row belongs to frame 3; every frame after the first needs"):
        converted(tmp_path / "in", tmp_path / "out", fps=20)
    with pytest.raises(VidarError, match="no row belongs to frames 3 .. 4;"):
        converted(tmp_path / "in", tmp_path / "out", fps=20, every=2)


def test_a_variable_rate_is_refused_or_converted_as_said(tmp_path):
    steps = np.random.default_rng(4).choice([16, 33, 50, 84], 199)
    times = np.concatenate([[0], np.cumsum(steps)])
    recording(tmp_path / "in" / "a.mp4", times)
    rate = 199 / times[-1] * 1000
    with pytest.raises(
        VidarError, match=r"a\.mp4: the frame rate is not constant: frame .*--stamps count keeps every"
    ) as e:
        converted(tmp_path / "in", tmp_path / "out", fps=rate)
    assert not (tmp_path / "out").exists() and "ffmpeg" not in str(e.value)
    (episode,) = converted(tmp_path / "in", tmp_path / "count", fps=20, stamps="count")
    assert in_step(episode) and len(episode.frames) == 200
    with pytest.raises(VidarError, match="would be shown twice at 20 fps; give a lower --target-fps"):
        converted(tmp_path / "in", tmp_path / "out", target_fps=20)
    (episode,) = converted(tmp_path / "in", tmp_path / "stamps", target_fps=10)
    shown = np.array(numbers(episode.frames))
    assert np.abs(times[shown] - 100 * np.arange(len(shown))).max() <= 42 and len(shown) == times[-1] // 100 + 1


def test_the_last_and_the_first_frame_may_be_held(tmp_path):
    recording(tmp_path / "in" / "a.mp4", [*every(20), 3000])
    with pytest.raises(VidarError, match="frame 20 comes 2.05 s after the one before, not 0.05 s as at 20 fps"):
        converted(tmp_path / "in", tmp_path / "out", fps=20)
    (episode,) = converted(tmp_path / "in", tmp_path / "out", fps=20, stamps="count")
    assert in_step(episode) and len(episode.frames) == 21


def test_frames_are_dropped_and_actions_combined(tmp_path):
    """60 fps to 20: keys that are down for one frame only, two weapons, a turn of 3 x 1 degree, the mean of gas."""
    t = np.arange(31)
    rows = [f"{int(n == 7)},{n % 3 % 2 + 2 * (n > 15)},{mu_law_bins(np.array(1.0), 11)},{n % 3}\n" for n in t]
    recording(tmp_path / "in" / "a.mp4", np.round(t * 1000 / 60), "fire,weapon,yaw,gas\n" + "".join(rows))
    by_rate, by_number = (
        converted(tmp_path / "in", tmp_path / f"{name}", spec=KINDS, fps=60, **how)[0]
        for name, how in (("rate", {"target_fps": 20}), ("number", {"every": 3}))
    )
    for episode in (by_rate, by_number):
        assert numbers(episode.frames) == list(range(0, 31, 3)) and episode.fps == 20
        fire, weapon, yaw, gas = episode.actions[1:].T
        assert np.flatnonzero(fire).tolist() == [2]  # frame 7 lies between the frames 6 and 9
        assert weapon.tolist() == [0] * 5 + [2] * 5  # 1 0 0 in turn
        one = mu_law_degrees(mu_law_bins(np.array(1.0), 11), 11)
        assert set(yaw) == {float(mu_law_bins(3 * one, 11))} and set(gas) == {1.0}
    (by_stamps,) = converted(tmp_path / "in", tmp_path / "stamps", spec=KINDS, target_fps=20)
    np.testing.assert_array_equal(by_stamps.actions, by_rate.actions)


def test_the_most_frequent_choice_is_kept_and_of_several_the_latest():
    for rows, kept in (("1 2", 2), ("2 1 1", 1), ("1 1 2 2", 2), ("2 1 2 1", 1), ("3 1 2 1 2", 2)):
        values = np.array(rows.split(), float)[:, None]
        spec = ActionSpec(actions=(Action(name="weapon", kind="choice", size=4),))
        table = Table(Path("t.csv"), values, range(len(values)), "line", "", np.zeros(0))
        frames, ends = np.arange(1, len(values) + 1), np.array([0, len(values)])
        assert actions_of_frames(table, spec, frames, ends, "bins", 1.0)[1, 0] == kept


def test_uneven_rates_keep_the_nearest_frames():
    kept = kept_frames(np.arange(31) / 30, 30, 20, None, "check", "x")
    assert kept[:7].tolist() == [0, 1, 3, 4, 6, 7, 9] and len(kept) == 21
    kept = kept_frames(np.arange(100) / 59.94, None, 60, None, "check", "x")
    assert kept.tolist() == list(range(100))  # the same rate, but for its name


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fps": 30}, "runs at 20 fps, not at 30; give --fps 20$"),
        ({"fps": 10}, "runs at 20 fps, not at 10; give --fps 20, or --target-fps 10 without --fps to drop frames"),
        ({"target_fps": 40}, "runs at 20 fps, below --target-fps 40; frames are never made up"),
        ({"fps": 20, "every": 25}, "1 of 20 frames is kept"),
    ],
)
def test_rates_that_do_not_fit_the_video(tmp_path, options, message):
    recording(tmp_path / "in" / "a.mp4", every(20))
    with pytest.raises(VidarError, match=r"a\.mp4: " + message):
        converted(tmp_path / "in", tmp_path / "out", **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "give --fps"),
        ({"target_fps": 10, "stamps": "count"}, "give --fps"),
        ({"fps": 20, "target_fps": 10, "every": 2}, "give one of them"),
        ({"fps": 20, "target_fps": 30}, "frames are dropped, never made up"),
        ({"fps": 0}, "--fps is 0"),
        ({"fps": 20, "every": 0}, "--every is 0"),
        ({"fps": 20, "camera_units": "degrees"}, "no action of kind camera"),
        ({"fps": 20, "degrees_per_pixel": 0.1}, "give both or none"),
        ({"fps": 20, "rows": "every", "spec": ActionSpec()}, "no tables"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(UsageError, match=message):
        Conversion(**{"spec": NUMBER, **options}).check()


@pytest.mark.parametrize("units, cell, scale", [("degrees", "{:.4f}", 1.0), ("pixels", "{:.0f}", 0.25)])
def test_cameras_in_degrees_and_pixels(tmp_path, units, cell, scale):
    turns = np.round(np.linspace(-90, 90, 20))
    rows = "".join(f"0,0,{cell.format(turn)},0\n" for turn in turns)
    recording(tmp_path / "in" / "a.mp4", every(20), "fire,weapon,yaw,gas\n" + rows)
    how = {"camera_units": units, **({"degrees_per_pixel": scale} if units == "pixels" else {})}
    (episode,) = converted(tmp_path / "in", tmp_path / "out", spec=KINDS, fps=20, **how)
    np.testing.assert_array_equal(episode.actions[1:, 2], mu_law_bins(scale * turns[1:], 11))
    with pytest.raises(VidarError, match=r"a\.csv: line 3: action 'yaw' is -81, .*--camera-units converts degrees"):
        converted(tmp_path / "in", tmp_path / "other", spec=KINDS, fps=20)


def test_moves_too_slow_for_a_bin_are_told(tmp_path):
    """0.15 degrees a pixel: 3 pixels are 0.45 degrees, less than half of the first of 11 bins; 4 pixels are enough."""
    rows = "".join(f"0,0,{(0, 3, -3, 4)[t % 4]},0\n" for t in range(21))
    recording(tmp_path / "in" / "a.mp4", every(21), "fire,weapon,yaw,gas\n" + rows)
    recording(tmp_path / "in" / "b.mp4", every(21), "fire,weapon,yaw,gas\n" + rows)

    def told(out, **options):
        lines = []
        conversion = Conversion(spec=KINDS, fps=20, camera_units="pixels", **options)
        convert_folder(tmp_path / "in", tmp_path / out, conversion, say=lines.append)
        return lines

    line = "'yaw': 20 of 30 moves are too slow for 11 bins and become rest; a larger size in the spec or a larger "
    assert told("out") == [line + "--degrees-per-pixel keeps them"]
    assert told("wide", degrees_per_pixel=1.0) == []
    assert told("pooled", every=2) == []  # 3 - 3 pixels are no move, 4 + 0 pixels are a fast one


def test_degrees_are_in_the_middle_of_their_bins():
    for size in (3, 11, 51, 101):
        bins = np.arange(size)
        np.testing.assert_array_equal(mu_law_bins(mu_law_degrees(bins, size), size), bins)
    np.testing.assert_allclose(mu_law_degrees(np.array([0, 5, 10]), 11), [-20, 0, 20])


GOOD = "0,0,0\n"


@pytest.mark.parametrize(
    "rows, message",
    [
        ("left,fire\n0,0\n", "header is left, fire; expected left, fire, weapon"),
        ("", "header is empty"),
        ("left;fire;weapon\n" + "0;0;0\n" * 20, "header is left;fire;weapon; expected .* separated by commas"),
        ("left,fire,weapon\n" + GOOD * 18, "18 rows for 20 frames"),
        ("left,fire,weapon\n" + GOOD * 21, "21 rows for 20 frames; --rows every needs 20"),
        ("left,fire,weapon\n" + GOOD * 5 + "0,x,0\n" + GOOD * 14, "line 7: 'fire' is 'x', which is not a number"),
        ("left,fire,weapon\n" + GOOD * 5 + "0,0\n" + GOOD * 14, "line 7: 2 cells, the header has 3 columns$"),
        ("left,fire,weapon\n" + GOOD * 5 + "0,5,0,0\n" + GOOD * 14, "line 7: 4 cells, .*; write 0.5, not 0,5"),
        ("left,fire,weapon\n" + GOOD * 5 + '"0,5",0,0\n' + GOOD * 14, "line 7: 'left' is '0,5', .*; write 0.5"),
        ("left,fire,weapon\n" + GOOD * 5 + "0,,0\n" + GOOD * 14, "line 7: 'fire' is empty"),
        ("left,fire,weapon\n" + GOOD * 5 + " , , \n" + GOOD * 14, "line 7: is empty"),
        ("left,fire,weapon\n" + GOOD * 5 + "\n" + GOOD * 14, "line 7: is empty"),
        ("left,fire,weapon\n" + GOOD * 5 + "0,2,0\n" + GOOD * 14, "line 7: action 'fire' is 2, legal is 0..1 whole"),
        ("left,fire,weapon\n" + GOOD * 5 + "0,0,1_0\n" + GOOD * 14, "line 7: 'weapon' is '1_0'"),
        ("left,fire,weapon\n" + GOOD * 19 + "nan,0,0\n", "line 21: action 'left' is nan"),
        ("left,fire,weapon,frame,time\n" + "0,0,0,0,0\n" * 20, "a column `frame` and a column `time`"),
        ('left,fire,weapon\n0,0,"0\n' + GOOD * 19, "cannot be read as CSV"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path, rows, message):
    spec = ActionSpec(actions=(Action(name="left"), Action(name="fire"), Action(name="weapon", kind="choice", size=4)))
    recording(tmp_path / "in" / "my clip.mp4", every(20), rows)
    with pytest.raises(VidarError, match=message) as caught:
        convert_folder(tmp_path / "in", tmp_path / "out", Conversion(spec=spec, fps=20))
    assert "my clip.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tables_with_a_mark_carriage_returns_and_empty_lines_at_the_end(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbfright, left\r\n" + b"True, 0\r\n" * 3 + b"\r\n\r\n")
    table = read_table(file, ("left", "right"))
    named = tmp_path / "b.csv"
    named.write_text("time\n3\n")
    assert read_table(named, ("time",)).by == ""  # an action of this name
    assert table.values.tolist() == [[0, 1]] * 3 and list(table.lines) == [2, 3, 4] and table.by == ""
    file.write_bytes("left,right\n1,0\n".encode("utf-16"))
    with pytest.raises(VidarError, match=r"a\.csv: is not UTF-8 text .*; save it as UTF-8"):
        read_table(file, ("left", "right"))


def test_json_lines(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"left": 1, "right": false, "time": 0.5}\n{"right": 2.5, "time": 1, "left": 0}\n')
    table = read_table(file, ("left", "right"))
    assert table.values.tolist() == [[1, 0], [0, 2.5]] and table.places.tolist() == [0.5, 1] and table.by == "time"
    for line, message in (
        ('{"left": 1}', "line 3: has left; line 1 has left, right, time"),
        ('{"left": 1, "right": null, "time": 2}', "line 3: 'right' is empty"),
        ('{"left": 1, "right": [2], "time": 2}', r"line 3: 'right' is '\[2\]', which is not a number"),
        ('{"left": 1, "left": 0, "right": 1, "time": 2}', "line 3: has left, left, right, time"),
        ("[1, 0, 2]", "line 3: is not a JSON object"),
        ("nonsense", "line 3: is not a JSON object"),
        (json.dumps({"left": 10**400, "right": 0, "time": 0}), "line 3: 'left' is too large"),
    ):
        bad = tmp_path / "b.jsonl"
        bad.write_text(file.read_text() + line + "\n")
        with pytest.raises(VidarError, match=r"b\.jsonl: " + message):
            read_table(bad, ("left", "right"))


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({"right": [True, False], "left": [0, 3], "frame": [0, 1]}), tmp_path / "a.parquet"
    )
    table = read_table(tmp_path / "a.parquet", ("left", "right"))
    assert table.values.tolist() == [[0, 1], [3, 0]] and table.by == "frame" and table.places.tolist() == [0, 1]
    parquet.write_table(pyarrow.table({"right": [1, 1], "left": [0, None]}), tmp_path / "b.parquet")
    with pytest.raises(VidarError, match=r"b\.parquet: row 1: 'left' is empty"):
        read_table(tmp_path / "b.parquet", ("left", "right"))
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(VidarError, match=r"c\.parquet: cannot be read as Parquet"):
        read_table(tmp_path / "c.parquet", ("left", "right"))


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        VidarError, match=r"a\.parquet: needs the package pyarrow: pip install 'vidar-world\[parquet\]'"
    ):
        read_table(tmp_path / "a.parquet", ("left", "right"))
