"""Exit codes and one-line errors."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import vidar
from vidar.cli import exit_code
from vidar.types import UsageError, VidarError

VIDAR = [sys.executable, "-m", "vidar.cli"]


def line(err):
    """The single line of an error."""
    assert err.startswith("vidar: ") and err.count("\n") == 1, err
    return err


def raises(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    "error, code",
    [
        (VidarError("a\nb"), 1),
        (UsageError("wrong"), 2),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "x.mp4"), 1),
    ],
)
def test_errors_become_a_line_and_a_code(capsys, error, code):
    assert exit_code(raises(error)) == code
    line(capsys.readouterr().err)


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(raises(ZeroDivisionError()))


def test_version(run):
    assert run("--version")[:2] == (0, vidar.__version__ + "\n")


@pytest.mark.parametrize("words", [(), ("data",)])
def test_nothing_to_do_prints_help(run, words):
    code, out, _ = run(*words)
    assert code == 2 and "Usage: " in out


@pytest.mark.parametrize(
    "words, named",
    [
        (["trian"], "trian"),
        (["train"], "RECIPE"),
        (["systems", "--jsn"], "--jsn"),
        (["generate", "m", "--out", "x.mp4", "--frames", "ten"], "--frames"),
    ],
)
def test_wrong_usage(run, words, named):
    code, out, err = run(*words)
    assert code == 2 and not out and named in line(err)


def test_exit_codes_of_the_process(tmp_path):
    done = subprocess.run([*VIDAR, "config", "world_shape"], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout and "did you mean world_shapes" in line(done.stderr)
    done = subprocess.run([*VIDAR, "data", "inspect", str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 1 and "none: no such data folder" in line(done.stderr)


def test_interrupt(tmp_path):
    words = ["record", "shapes", "--episodes", "1000000", "--out", str(tmp_path / "d")]
    process = subprocess.Popen([*VIDAR, *words], stderr=subprocess.PIPE, text=True)
    while not any((tmp_path / "d").glob("*")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and line(err) == "vidar: interrupted\n"


def test_doctor(run):
    code, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert code == 0 and report["ok"] and report["checks"] == {"folders": True, "video": True, "disk": True}
    assert report["versions"]["vidar"] == vidar.__version__ and set(report["attention"]) == {"train", "play"}


def test_doctor_fails_where_video_does(run, monkeypatch):
    def broken(*_, **__):
        raise VidarError("second.mp4: cannot be written")

    monkeypatch.setattr("vidar.eval.doctor.write_video", broken)
    code, out, _ = run("doctor")
    assert code == 1 and "second.mp4: cannot be written" in out


def test_python_m_vidar_is_the_command():
    done = subprocess.run([sys.executable, "-m", "vidar", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, vidar.__version__ + "\n")
    done = subprocess.run([sys.executable, "-m", "vidar", "trian"], capture_output=True, text=True)
    assert done.returncode == 2 and "trian" in line(done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_and_completes(shell):
    def complete(**variables):
        done = subprocess.run(VIDAR, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "_VIDAR_COMPLETE=complete_" in complete(_VIDAR_COMPLETE=f"source_{shell}")
    words = {"COMP_WORDS": "vidar rep", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "vidar rep"}
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    assert "replay" in complete(_VIDAR_COMPLETE=f"complete_{shell}", **words, **action)


def test_completion_can_be_installed(tmp_path):
    shell = ["bash", "-c", f"'{sys.executable}' -m vidar --install-completion; exit $?"]
    done = subprocess.run(shell, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any("_VIDAR_COMPLETE" in file.read_text() for file in tmp_path.rglob("*") if file.is_file())
