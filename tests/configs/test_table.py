"""The table of systems: figures from their files, README.md as the generator has it, readable at any width."""

import json
import re

import pytest

from vidar.configs import figures, table
from vidar.configs.catalog import find, find_system
from vidar.configs.figures import Figure, Measurement, Results
from vidar.types import UsageError


@pytest.fixture(scope="module")
def known():
    return table.entries()


@pytest.fixture(scope="module")
def generated():
    return table.markdown()


def test_readme_is_what_the_generator_makes(generated, monkeypatch):
    monkeypatch.setattr(table, "markdown", lambda: generated)
    assert table.README.read_text() == table.readme(), "python -m vidar.configs.table writes it anew"


def test_what_is_written_by_hand_stays(tmp_path, monkeypatch):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    monkeypatch.setattr(table, "README", file)
    monkeypatch.setattr(table, "markdown", lambda: "| new |")
    assert table.readme() == f"before\n{table.BEGIN}\n\n| new |\n\n{table.END}\nafter\n"
    file.write_text("nothing")
    with pytest.raises(UsageError, match="README.md: the lines <!-- generated"):
        table.readme()


def test_every_file_of_figures_is_a_measured_recipe(known):
    """And every recipe that says it was measured has a file."""
    files = {file.stem for file in figures.FOLDER.iterdir()}
    assert files == {one.recipe for one in known if one.status != "trainable"} and len(files) > 20
    for name in files:
        stored = json.loads((figures.FOLDER / f"{name}.json").read_text())
        results = figures.read(name)
        assert results.model_dump(mode="json", exclude_defaults=True) == stored and results.recipe == name
        assert results.figure("main") is not None and results.training.minutes > 0


def test_figures_in_words():
    gain = Figure(name="over copy-last, frames 1-16", value=1.164, low=0.794, high=-1.5, unit="dB", signed=True)
    assert str(gain) == "+1.16 dB [0.79, -1.50] over copy-last, frames 1-16"
    assert (gain.cell(), gain.brief()) == ("+1.16 dB [0.79, -1.50] over copy-last", "+1.16 dB over copy-last")
    assert str(Figure(name="words", value=11053.4, digits=0)) == "11,053 words"
    assert str(Figure(name="SSIM", value=0.9)) == "0.90 SSIM"
    assert str(gain.replace(value=-0.553, low=None, high=None)).startswith("-0.55 dB over")


def measurement(command, *values):
    found = tuple(Figure(name="of it", value=value, role="main") for value in values)
    return Measurement(command=command, data="data", date="2026-01-02", figures=found)


def test_the_same_command_takes_the_place_of_what_it_found_before():
    results = Results(recipe="x", measurements=tuple(measurement(name, 1.0) for name in "abc"))
    again = results.beside(measurement("b", 2.0))
    assert [(m.command, m.figures[0].value) for m in again.measurements] == [("a", 1.0), ("b", 2.0), ("c", 1.0)]
    assert [m.command for m in again.beside(measurement("d", 3.0)).measurements] == ["a", "b", "c", "d"]
    assert again.figure("main").value == 1.0 and again.figure("baseline") is None


def test_files_that_hold_no_figures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    assert figures.read("x") is None
    (tmp_path / "x.json").write_text(json.dumps({"recipe": "x", "measurments": []}))
    with pytest.raises(UsageError, match="did you mean measurements"):
        figures.read("x")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_listing_fits_the_terminal(known, width):
    lines = list(table.listing(known, width))
    assert max(map(len, lines)) <= max(width, 78)  # name, size, status and figure stay in one line
    text = " ".join(" ".join(lines).split())
    assert all(one.recipe in text and " ".join(one.what.split()) in text for one in known)
    assert [line for line in lines if line in table.GROUPS] == list(table.GROUPS)


def test_details_hold_every_figure_and_command(known):
    measured = [one for one in known if one.results.measurements]
    lines = list(table.details(measured, 80))
    text = " ".join(" ".join(lines).split())
    for one in measured:
        for found in one.results.measurements:
            assert f"$ {found.command}" in text and found.date in text and found.note in text
            assert all(str(figure) in text for figure in found.figures)
        assert table.training_in_words(one.results.training, "") in text
    assert all(len(line) <= 80 for line in lines if "$" not in line)  # commands can be copied


def test_cells_are_short(generated):
    rows = [line for line in generated.splitlines() if line.startswith("| ")]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")]
    assert len(rows) > 40 and max(map(len, cells)) <= 66
    assert all(row.count("|") == rows[0].count("|") for row in rows)


def test_words_choose():
    assert [one.recipe for one in table.entries("xar")] == ["xar"]  # a name, though others begin alike
    found = {one.recipe for one in table.entries("videoar")}
    assert {"videoar_doom", "videoar_shapes", "tokenizer_videoar_doom"} <= found and "var" not in found
    assert {one.group for one in table.entries("readers")} == {"Readers"}
    assert {one.status for one in table.entries("shipped")} >= {"shipped"}
    with pytest.raises(UsageError, match="no system has 'zzz'"):
        table.entries("zzz")


@pytest.mark.parametrize(
    "name, words",
    [
        ("world_doom", "endless units of 20 sites, ring 140"),
        ("ca2vdm_doom", "endless units of 20 sites, rings space 0, prefix 60, time 180"),
        ("xar_scales_doom", "endless units of 6 + 20 sites, ring 208"),
        ("mmpl_shapes", "4 units of 32 + 80 + 32 + 48 sites, ring all"),
        ("infinitystar_shapes", "12 units in 3 pyramids of 37 + 74 + 74 sites, ring all"),
    ],
)
def test_orders_in_words(name, words):
    assert table.order_in_words(find_system(find(name)())) == words


def test_sizes_in_words():
    assert [table.short(n) for n in (9_480_171_092, 161_240_800, 11_152_428, 62_538)] == [
        *("9,480 M", "161 M", "11.2 M", "62.5 k"),
    ]
    (entry,) = table.entries("acdit")
    assert re.findall(r"[\d.]+ M", table.sizes_in_words(entry.networks)) == ["130.7 M", "460.4 M", "676.2 M", "954.0 M"]
