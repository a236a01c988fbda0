"""Scripts that write files end in one line where they cannot, before anything is measured."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
CASES = {
    "screenshot_play": (["FILE/shot.png"], "FILE/shot.png: the folder FILE is not a folder"),
    "bench_plan": (["untrained", "1", "1", "FILE/out"], "FILE/out: cannot be made a folder"),
    "compare_worlds": (["FILE/out", "doom@2"], "FILE/out"),
    "ablate_scales": (["FILE/runs"], "FILE is a file, but record writes a folder of shards"),
    "compare_drift": (["NONE/model"], "NONE/model: no such world"),
    "evaluate_idm": (["NONE/model", "NONE"], "NONE"),
    "evaluate_pictures": (["NONE/model", "NONE"], "NONE/model: no such world"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_script_that_cannot_read_or_write_ends_in_one_line(name, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")

    def placed(text):
        return text.replace("FILE", str(tmp_path / "file")).replace("NONE", str(tmp_path / "none"))

    words, message = CASES[name]
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / f"{name}.py"), *map(placed, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    assert str(ended.value).startswith(f"{name}: ") and placed(message) in str(ended.value), ended.value
    assert "\n" not in str(ended.value) and (tmp_path / "file").read_text() == "x"
