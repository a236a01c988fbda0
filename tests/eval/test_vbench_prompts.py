"""The names of VBench's videos: those that its package looks for, or safe ones for own prompts."""

import json

import pytest

from vidar.eval.vbench_prompts import LONGEST, folded, official, own, read_info, read_prompts
from vidar.types import UsageError

INFO = [
    {"prompt_en": "a stop sign, still", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a cat", "dimension": ["object_class"], "auxiliary_info": {"object_class": {"object": "cat"}}},
    {"prompt_en": "the sea, oil", "dimension": ["appearance_style"]},
    {"prompt_en": "A Cat", "dimension": ["scene", "background_consistency"]},
    {"prompt_en": "the sea, oil", "dimension": ["overall_consistency"], "image_name": None},
]


@pytest.fixture
def info(tmp_path):
    def write(entries):
        file = tmp_path / "info.json"
        file.write_text(json.dumps(entries))
        return file

    return write


def test_official_names(info):
    wanted = official(read_info(info(INFO)), "standard")
    names = [one.file for one in wanted]
    assert names == [f"{p}-{i}.mp4" for p, n in (("a stop sign, still", 25), ("a cat", 5)) for i in range(n)] + [
        f"{p}-{i}.mp4" for p in ("the sea, oil", "A Cat") for i in range(5)
    ]
    sea = next(one for one in wanted if one.prompt == "the sea, oil")
    assert sea.dimensions == ("appearance_style", "overall_consistency") and sea.index == 0
    assert [*folded(names)] == [(f"a cat-{i}.mp4", f"A Cat-{i}.mp4") for i in range(5)]
    assert len(official(read_info(info(INFO)), "long")) == 20  # five of each


def test_some_dimensions_and_some_prompts(info):
    prompts = read_info(info([{"prompt_en": f"p{n}", "dimension": ["scene", "color"][: 1 + n % 2]} for n in range(6)]))
    assert {one.prompt for one in official(prompts, "standard", ["color"])} == {"p1", "p3", "p5"}
    assert {one.dimensions for one in official(prompts, "standard", ["color"])} == {("color",)}
    first = official(prompts, "standard", (), 1)
    assert {(one.prompt, one.dimensions) for one in first} == {("p0", ("scene",)), ("p1", ("color",))}
    with pytest.raises(UsageError, match="no prompt is for dimension 'colour'; there are color, scene"):
        official(prompts, "standard", ["colour"])


def test_image_to_video(info):
    prompts = read_info(
        info([{"prompt_en": "a car, camera pans left", "dimension": ["camera_motion"], "image_name": "a car.jpg"}])
    )
    assert {one.image for one in official(prompts, "i2v")} == {"a car.jpg"}
    with pytest.raises(UsageError, match="has no image_name; give the info file of VBench-I2V"):
        official(read_info(info(INFO)), "i2v")


@pytest.mark.parametrize(
    ("prompt", "mode", "problem"),
    [
        ("left/right", "standard", "contains / or a zero byte, so no file can have its name; use --mode custom"),
        ("x" * (LONGEST + 1), "standard", f"{LONGEST + 1} bytes, a file name has room for {LONGEST}"),
        ("\u00e7" * (LONGEST // 2 + 1), "standard", "a file name has room"),
        ("a_b", "long", "VBench-Long cuts names at _"),
    ],
)
def test_prompts_that_cannot_name_a_file(info, prompt, mode, problem):
    with pytest.raises(UsageError, match=problem):
        official(read_info(info([{"prompt_en": prompt, "dimension": ["scene"]}])), mode)
    wanted = own([prompt, "another"], 1)
    assert len(wanted[0].file.encode()) <= LONGEST + 6 and not set(wanted[0].file) & set("/_\0")
    assert wanted[0].prompt == prompt


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({}, "holds no list of prompts"),
        ([{"prompt_en": "x"}], "entry 0 has no prompt_en and dimension"),
        ([INFO[0], {"prompt_en": "x", "dimension": [1]}], "entry 1 has no prompt_en"),
        ([{"prompt_en": "x", "dimension": ["a"], "image_name": "../x.jpg"}], "no name of a picture"),
    ],
)
def test_other_files_are_refused(info, entries, problem):
    with pytest.raises(UsageError, match=problem):
        read_info(info(entries))


def test_own_prompts(tmp_path):
    prompts = ["a/b", "a b", "A?B", "plain", "..", "x" * 500, "x" * 501, "snow_man"]
    names = [one.file for one in own(prompts, 2)]
    assert names[6:8] == ["plain-0.mp4", "plain-1.mp4"] and names[14] == "snow man-0.mp4"
    assert len({name.casefold() for name in names}) == 16 and max(len(name.encode()) for name in names) <= LONGEST + 6
    assert [one.file for one in own(prompts[::-1], 2)][::-1] != names  # other order of the list, but the same names
    assert {one.file for one in own(prompts[::-1], 2)} == set(names)
    for wrong, problem in ((["a", "a"], "prompt 2 .* is given twice"), (["a", "  "], "prompt 2 .* is empty")):
        with pytest.raises(UsageError, match=problem):
            own(wrong, 1)
    file = tmp_path / "p.txt"
    file.write_text("\ufeff// mine\n a cat \n\nb\n", encoding="utf-8")
    assert read_prompts(file) == ["a cat", "b"]
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="is no text in UTF-8"):
        read_prompts(file)
    file.write_text("//\n")
    with pytest.raises(UsageError, match="holds no prompts"):
        read_prompts(file)
