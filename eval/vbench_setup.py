"""The environment of the official VBench package: a virtual environment of its own, made with pip.

VBench 0.1.5 needs transformers 4.33.2 and numpy below 2, so it cannot share an environment with vidar. A plain
`pip install vbench` installs newer versions of other packages, with which 8 of its 16 dimensions and all of VBench-Long
do not import; `PACKAGES` are the versions with which all do that do not need detectron2.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidar.data.atomic import lock_folder, replacing
from vidar.data.cache import cache_folder, unwritable
from vidar.eval import vbench_call
from vidar.eval.vbench_total import I2V, QUALITY, SEMANTIC
from vidar.types import UsageError, VidarError

PACKAGES = (
    "vbench==0.1.5",
    "setuptools<81",  # clip imports pkg_resources, which later ones lack
    "torch==2.6.0",
    "torchvision==0.21.0",  # VBench-Long writes its clips with it; later ones write no videos
    "av==12.3.0",  # torchvision writes videos with it
    "moviepy==1.0.3",
    "scenedetect==0.7.2",
    "dreamsim==0.2.1",
    "peft==0.5.0",  # dreamsim needs it; later ones need a later transformers
)
PYTHONS = ((3, 11), (3, 10))  # tokenizers 0.13, which transformers 4.33.2 needs, has no wheels for later ones
NEEDED = 8 << 30  # bytes
DONE = "vidar.json"  # in the environment, written last
INFO = "VBench_full_info.json"
UNREACHABLE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError", "SSLError")
BUILT_APART = "detectron2"
Say = Callable[[str], None]


def home(out: Path | None = None) -> Path:
    """The folder of the environment: `out`, or vbench in the cache folder."""
    return cache_folder() / "vbench" if out is None else out


def interpreter(folder: Path) -> Path:
    """The Python of the environment. Raises UsageError if there is none."""
    python = folder / "env" / ("Scripts/python.exe" if sysconfig.get_platform().startswith("win") else "bin/python")
    if not (folder / "env" / DONE).is_file():
        raise UsageError(f"{folder}: holds no environment of VBench; make one with `vidar eval vbench setup`")
    return python


def info_file(folder: Path) -> Path:
    """The official prompts, in the installed package. Raises UsageError if there are none."""
    found = sorted((folder / "env").glob(f"[Ll]ib/**/site-packages/vbench/{INFO}"))
    if not found:
        raise UsageError(f"no {INFO}: give it with --info, or make the environment with `vidar eval vbench setup`")
    return found[0]


def setup(out: Path | None = None, python: Path | None = None, say: Say = lambda line: None) -> dict[str, Any]:
    """Make the environment if it is not there; returns where it is and which dimensions can be computed.

    python: the interpreter to make it with (None: this one, or one in PATH that fits). What pip says is in setup.log.
    Raises UsageError without a fitting interpreter or disk space, VidarError if pip fails.
    """
    folder = home(out)
    known = _finished(folder)
    if known is not None:
        return known
    chosen = _fitting(python)
    problem = unwritable(folder, NEEDED)
    if problem:
        raise UsageError(f"{problem}; give another folder with --out")
    env, log = folder / "env", folder / "setup.log"
    with lock_folder(folder, "vidar eval vbench setup"):
        if env.exists() and not (env / "pyvenv.cfg").is_file():
            raise UsageError(f"{env}: exists, and is no virtual environment; give another folder with --out")
        shutil.rmtree(env, ignore_errors=True)
        with log.open("w") as stream:
            _run([str(chosen), "-m", "venv", str(env)], stream, log)
            pip = [str(env / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
            say(f"installing VBench and its versions of torch and transformers into {env} (7 GB; minutes)")
            _run([*pip, "--retries", "1", "--timeout", "20", *PACKAGES], stream, log)
        importable = _probe(env / "bin" / "python", folder)
        made = {"environment": str(env), "packages": list(PACKAGES), **_told(importable)}
        with replacing(env / DONE) as file:
            file.write_text(json.dumps(made, indent=1) + "\n")
    return made


def _finished(folder: Path) -> dict[str, Any] | None:
    """What an earlier call told, if it made an environment with these packages."""
    try:
        known = json.loads((folder / "env" / DONE).read_text())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and known.get("packages") == list(PACKAGES) else None


def _fitting(python: Path | None) -> Path:
    """An interpreter of a version in `PYTHONS`. Raises UsageError if there is none."""
    wanted = " or ".join(".".join(map(str, version)) for version in PYTHONS)
    names = [f"python{major}.{minor}" for major, minor in PYTHONS]
    tried = [python] if python is not None else [Path(sys.executable), *(shutil.which(name) for name in names)]
    versions: list[str] = []
    for one in (Path(found) for found in tried if found is not None):
        version = _version(one)
        if version in PYTHONS:
            return one
        versions.append(f"{one} is {'.'.join(map(str, version))}" if version else f"{one} does not run")
    raise UsageError(
        f"VBench needs Python {wanted} (its transformers 4.33.2 has no wheels for others), but "
        f"{', '.join(dict.fromkeys(versions))}; install one and give it with --python"
    )


def _version(python: Path) -> tuple[int, int] | None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60, check=True)
        major, minor = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return major, minor


def _run(command: Sequence[str], stream: Any, log: Path) -> None:
    """Run a command with its output in a log. Raises VidarError with the reason if it fails."""
    code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if code == 0:
        return
    stream.flush()
    text = log.read_text(errors="replace")
    if any(word in text for word in UNREACHABLE):
        raise VidarError(
            f"no package index can be reached, so VBench cannot be installed; connect this machine, or set pip's index "
            f"(pip config set global.index-url ...), and run the same command again; pip's output is in {log}"
        )
    raise VidarError(f"{' '.join(command[1:4])} failed with code {code}: {last_lines(text)}; all output is in {log}")


def last_lines(text: str, count: int = 2) -> str:
    """The last lines of a log that are not blank, joined."""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])[-500:]


def _probe(python: Path, folder: Path) -> dict[str, str]:
    """Module of every dimension -> why it cannot be imported, or ""."""
    standard = [f"vbench.{name}" for name in (*QUALITY, *SEMANTIC)]
    long = [f"vbench2_beta_long.{name}" for name in (*QUALITY, *SEMANTIC)]
    request, found = folder / "probe.json", folder / "probed.json"
    modules = [*standard, *long, *(f"vbench2_beta_i2v.{name}" for name in I2V)]
    request.write_text(json.dumps({"probe": modules, "out": str(found)}))
    log = folder / "probe.log"
    with log.open("w") as stream:
        _run([str(python), "-I", str(vbench_call.__file__), str(request)], stream, log)
    return json.loads(found.read_text())


def _told(importable: dict[str, str]) -> dict[str, Any]:
    lacking = {name: why for name, why in importable.items() if why}
    apart = any(BUILT_APART in why for why in lacking.values())
    remedy = f"{BUILT_APART} is on no package index: build it from its source in this environment" if apart else ""
    return {"dimensions": len(importable), "usable": len(importable) - len(lacking), "lacking": lacking} | (
        {"remedy": remedy} if remedy else {}
    )
