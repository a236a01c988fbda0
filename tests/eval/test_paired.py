"""Paired figures are written and read unchanged; what cannot be compared is refused in one line that names it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vidar.eval.paired import check_pairing, figures, fingerprint_of, read_paired, write_strips
from vidar.types import UsageError, VidarError

PAIRING = {"suite": "world", "starts": ["a", "b", "c"], "frames": 16}


def made(pairing=PAIRING, values=(1.0, 2.0, 3.0)):
    return figures(pairing, {"PSNR": np.array(values)}, {"PSNR": "higher"})


def stored(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def report(folder, **more):
    return stored(folder, {"versions": {"vidar": "0"}, **made().entries(), **more})


def test_read_is_what_was_written(tmp_path):
    values = np.random.default_rng(0).normal(size=3)
    wrote = made(values=values)
    folder = stored(tmp_path / "a", {"versions": {"vidar": "0"}, "world": "doom", **wrote.entries()})
    for path in (folder, folder / "report.json"):
        read = read_paired(path)
        assert read.figures.pairing == PAIRING and read.figures.better == {"PSNR": "higher"}
        assert np.abs(np.array(read.figures.values["PSNR"]) - values).max() <= 5e-7 and read.starts == 3
        assert read.content["world"] == "doom"


def test_a_figure_without_a_number_is_left_out_with_the_reason(tmp_path):
    found = figures(PAIRING, {"a": [1.0, 2.0, 3.0], "b": [1.0, np.nan, np.inf]}, {"a": "lower", "b": "lower"})
    assert list(found.values) == ["a"] and found.left_out == {"b": "not measured for 2 of 3 starts"}
    folder = stored(tmp_path / "a", {"versions": {}, **found.entries()})
    assert read_paired(folder).figures.left_out == found.left_out
    none = figures(PAIRING, {"b": [np.nan] * 3}, {"b": "lower"})
    with pytest.raises(VidarError, match="no paired figures: b was not measured for 3 of 3 starts"):
        read_paired(stored(tmp_path / "b", {"versions": {}, **none.entries()}))
    for values, better in (({"a": [1.0, 2.0], "b": [1.0]}, {"a": "lower", "b": "lower"}), ({"a": [1.0]}, {})):
        with pytest.raises(ValueError, match="one number per start"):
            figures(PAIRING, values, better)


def broken(**changes):
    whole = json.loads(json.dumps({"versions": {}, **made().entries()}))
    whole["paired"].update(changes)
    return whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "is not a report of `vidar eval`"),
        ({"a": 1}, "is not a report of `vidar eval`"),
        ({"versions": {}}, r"before reports could be compared; run `vidar eval MODEL --suite ...` again"),
        ({"versions": {}, "command": "vidar eval doom --suite world"}, "run `vidar eval doom --suite world` again"),
        ({**broken(), "version": 2}, "has version 2, and this vidar reads 1"),
        ({**broken(), "paired": None}, "paired figures are damaged"),
        (broken(values=[1]), "paired figures are damaged"),
        (broken(better={}), "figure 'PSNR' is damaged"),
        (broken(values={"PSNR": [1.0, None, 3.0]}), "'PSNR' has no number for start 2"),
        (broken(values={"PSNR": [1.0, 2.0, float("nan")]}), "'PSNR' has no number for start 3"),
        (broken(values={"PSNR": [1.0, True]}), "'PSNR' has no number for start 2"),
        (
            broken(values={"PSNR": [1.0, 2.0], "x": [1.0]}, better={"PSNR": "higher", "x": "lower"}),
            "'x' has 1 numbers, others have 2",
        ),
        (broken(values={"PSNR": [1.0]}), "one start, but a comparison needs two"),
    ],
)
def test_what_is_no_paired_report_is_named(tmp_path, content, message):
    folder = stored(tmp_path / "x", content)
    with pytest.raises(VidarError, match=message) as caught:
        read_paired(folder)
    assert str(caught.value).startswith(f"{folder / 'report.json'}: ") and "\n" not in str(caught.value)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(VidarError, match="no such report"):
        read_paired(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(VidarError, match="is not a report of vidar"):
        read_paired(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 32}, "frames is 16 and 32"),
        ({"starts": ["a", "z", "c"]}, 'starts is "b" and "z" at number 2'),
        ({"starts": ["a"]}, "starts has 3 entries and 1"),
        ({"suite": "endless"}, 'suite is "world" and "endless"'),
        ({"new": 1}, "new is null and 1"),
    ],
)
def test_other_starts_are_refused_by_the_key_that_differs(tmp_path, change, message):
    a = read_paired(report(tmp_path / "a"))
    b = stored(tmp_path / "b", {"versions": {}, **made({**PAIRING, **change}).entries()})
    check_pairing([a, a])
    with pytest.raises(UsageError, match=message) as caught:
        check_pairing([a, a, read_paired(b)])
    assert "\n" not in str(caught.value) and str(a.file) in str(caught.value)


def test_unequal_lengths_are_refused(tmp_path):
    a = read_paired(report(tmp_path / "a"))
    b = read_paired(stored(tmp_path / "b", {"versions": {}, **made(values=(1.0, 2.0)).entries()}))
    with pytest.raises(UsageError, match="has 3 numbers per figure, .* has 2"):
        check_pairing([a, b])


def test_strips_lie_beside_the_report(tmp_path):
    entry = write_strips(tmp_path / "a", {"one: a/b": b"1", "two": b"2"}, ["0 s", "1 s"])
    read = read_paired(report(tmp_path / "a", **entry))
    assert read.strips() == {"one: a/b": b"1", "two": b"2"} and read.heads() == ["0 s", "1 s"]
    (tmp_path / "a" / "strips" / "000.png").unlink()
    assert read.strips() == {"two": b"2"}
    other = read_paired(report(tmp_path / "b"))
    assert other.strips() == {} and other.heads() == []


def test_the_fingerprint_sees_a_pixel_and_the_shape():
    frames = np.zeros((2, 3, 4, 5, 3), np.uint8)
    other = frames.copy()
    other[1, 2, 3, 4, 2] = 1
    prints = {fingerprint_of(frames), fingerprint_of(other), fingerprint_of(frames.reshape(3, 2, 4, 5, 3))}
    assert len(prints) == 3 and fingerprint_of(frames.copy()) in prints
