"""The environment of VBench: which Python, no network, no room, what is kept. Its use: test_vbench_official."""

import json
import shutil
import sys

import pytest

from vidar.data.cache import keep_in
from vidar.eval import vbench_setup
from vidar.eval.vbench_setup import PACKAGES, home, info_file, interpreter, last_lines, setup
from vidar.types import UsageError, VidarError

HERE = sys.version_info[:2]


def script(file, text):
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.mark.skipif(HERE not in vbench_setup.PYTHONS, reason="VBench has no packages for this Python")
def test_without_a_package_index(tmp_path, monkeypatch):
    """A real virtual environment is made, and the real pip fails in one line that names the remedy and the log."""
    monkeypatch.setattr(vbench_setup, "NEEDED", 1 << 20)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    with pytest.raises(VidarError, match="no package index can be reached, so VBench cannot be installed") as raised:
        setup(tmp_path / "vb")
    assert str(tmp_path / "vb" / "setup.log") in str(raised.value) and "\n" not in str(raised.value)
    assert "vbench==0.1.5" in (tmp_path / "vb" / "setup.log").read_text()
    with pytest.raises(UsageError, match="holds no environment of VBench; make one with"):
        interpreter(tmp_path / "vb")  # the half-made environment is not taken


def test_pythons_that_do_not_fit(tmp_path, monkeypatch):
    new = script(tmp_path / "new", "echo 3 14")
    with pytest.raises(UsageError, match=r"needs Python 3.11 or 3.10 .*, but .*new is 3.14; install one"):
        setup(tmp_path / "vb", new)
    with pytest.raises(UsageError, match="old does not run"):
        setup(tmp_path / "vb", script(tmp_path / "old", "exit 1"))
    with pytest.raises(UsageError, match="absent does not run"):
        setup(tmp_path / "vb", tmp_path / "absent")
    assert not (tmp_path / "vb").exists()
    monkeypatch.setattr(sys, "executable", str(new))
    monkeypatch.setenv("PATH", str(tmp_path))
    fitting = script(tmp_path / "python3.10", "echo 3 10")
    assert vbench_setup._fitting(None) == fitting  # this interpreter does not fit, one in PATH does


def test_no_room_and_no_environment_of_ours(tmp_path, monkeypatch):
    fitting = script(tmp_path / "python", "echo 3 11")
    monkeypatch.setattr(vbench_setup, "NEEDED", 1 << 60)
    with pytest.raises(UsageError, match=r"MiB free, .* are needed; give another folder with --out"):
        setup(tmp_path / "vb", fitting)
    monkeypatch.setattr(vbench_setup, "NEEDED", 1)
    (tmp_path / "vb" / "env").mkdir(parents=True)
    (tmp_path / "vb" / "env" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="exists, and is no virtual environment"):
        setup(tmp_path / "vb", fitting)
    assert (tmp_path / "vb" / "env" / "mine.txt").read_text() == "keep"


def test_a_failing_step_tells_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(vbench_setup, "NEEDED", 1)
    broken = script(tmp_path / "python", 'case "$1" in -c) echo 3 11;; *) echo one; echo; echo two; exit 3;; esac')
    with pytest.raises(VidarError, match=r"-m venv .* failed with code 3: one \| two; all output is in .*setup.log"):
        setup(tmp_path / "vb", broken)
    assert last_lines("a\n\n b \nc\n", 2) == "b | c"


def test_a_finished_environment_is_kept(tmp_path):
    env = tmp_path / "env"
    prompts = env / "lib" / "python3.11" / "site-packages" / "vbench" / "VBench_full_info.json"
    prompts.parent.mkdir(parents=True)
    prompts.write_text("[]")
    (env / "vidar.json").write_text(json.dumps({"packages": list(PACKAGES), "usable": 3}))
    assert setup(tmp_path)["usable"] == 3 and interpreter(tmp_path).parent.parent == env
    assert info_file(tmp_path) == prompts
    shutil.rmtree(prompts.parent)
    with pytest.raises(UsageError, match=r"no VBench_full_info.json: give it with --info, or make the environment"):
        info_file(tmp_path)


def test_where_it_lies(tmp_path):
    keep_in(tmp_path)
    try:
        assert home() == tmp_path / "vbench" and home(tmp_path / "x") == tmp_path / "x"
    finally:
        keep_in(None)
