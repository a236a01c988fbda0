"""The house rules that a machine can check: import direction, sizes, names, what `import vidar` loads."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Union, get_args, get_origin

import pytest

import vidar
from vidar.config import Config

ROOT = Path(__file__).parent.parent
FOLDERS = ("vidar", "configs", "kernels", "data", "eval", "scripts")
LINKED = ("configs", "kernels", "data", "eval")
STEPS = (
    "types printable",
    "config",
    "actions rng",
    "kernels core data",
    "orders cache nn",
    "tokenizers objectives conditioning",
    "sampling",
    "rollout",
    "model",
    "train play synth",
    "configs check",
    "eval",
    "cli scripts",
)
STEP = {name: number for number, names in enumerate(STEPS) for name in names.split()}
ALIAS = {"commands": "cli", "pretrained": "model", "__main__": "cli"}  # files of the same part
OPTIONAL = {
    *("deepspeed", "ray", "flash_attn", "decord", "minerl", "transformers", "vizdoom", "tensorboard", "wandb"),
    *("starlette", "uvicorn", "websockets", "segno", "pygame", "huggingface_hub", "triton"),
}


def files(folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    found = [file for folder in folders for file in walk(ROOT / folder)]
    assert len(found) > 50
    return found


def walk(folder: Path) -> Iterator[Path]:
    for place, inner, names in os.walk(folder, followlinks=False):
        inner[:] = [name for name in inner if not name.startswith((".", "_"))]
        yield from (Path(place) / name for name in sorted(names) if name.endswith(".py"))


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] in ("vidar", "scripts") else ("vidar", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(name: str) -> str:
    """vidar.nn.mixers.x -> nn."""
    pieces = name.split(".")
    owner = pieces[0] if pieces[0] == "scripts" else pieces[1] if len(pieces) > 1 else ""
    return ALIAS.get(owner, owner)


def imports(tree: ast.AST, everywhere: bool = True, types: bool = False) -> Iterator[tuple[str, list[str], int]]:
    """(module, names taken from it, line). everywhere: those of functions too; types: those for type checkers too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by the long name"
            yield node.module or "", [alias.name for alias in node.names], node.lineno
        elif not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.orelse, []), everywhere)
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, everywhere, types)


def imported(file: Path, types: bool = False) -> Iterator[tuple[str, int]]:
    """Modules of vidar that a file imports; `from vidar.x import y` is vidar.x.y where that is a module."""
    known = modules()
    for name, taken, line in imports(parsed(file), types=types):
        if name.split(".")[0] == "vidar":
            inner = [f"{name}.{item}" for item in taken if f"{name}.{item}" in known]
            yield from ((target, line) for target in inner or [name])


@cache
def modules() -> dict[str, Path]:
    return {module(file): file for file in files()}


def test_imports_go_one_way():
    wrong = []
    for file in files():
        here = part(module(file))
        if not here:  # vidar/__init__.py
            continue
        assert here in STEP, f"{file}: {here} has no place in the import direction"
        for name, line in imported(file):
            there = part(name)
            if there and there != here and STEP[there] >= STEP[here]:
                wrong.append(f"{file.relative_to(ROOT)}:{line}: {here} imports {there}")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles():
    """None, whether an import runs at once, within a function or for type checkers alone."""
    graph = {name: {target for target, _ in imported(file, types=True)} for name, file in modules().items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done and name in graph:
            for other in sorted(graph[name] - {"vidar"}):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_files_and_functions_are_short():
    wrong = []
    for file in files((*FOLDERS, "tests")):
        count = len(file.read_text().splitlines())
        if count > 400:
            wrong.append(f"{file.relative_to(ROOT)}: {count} lines")
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_files_are_plain():
    wrong = []
    for file in files((*FOLDERS, "tests")):
        text = file.read_text()
        if not text.isascii():
            wrong.append(f"{file.relative_to(ROOT)}: not ASCII")
        if file.stem in ("utils", "helpers", "common", "misc"):
            wrong.append(f"{file.relative_to(ROOT)}: a file is named after its idea")
        long = [n for n, line in enumerate(text.splitlines(), 1) if len(line) > 120]
        wrong += [f"{file.relative_to(ROOT)}:{n}: longer than 120" for n in long]
    assert not wrong, "\n".join(wrong)


def test_optional_packages_have_one_home():
    homes: dict[str, set[str]] = {}
    wrong = []
    for file in files():
        name = str(file.relative_to(ROOT))
        for target, _, _ in imports(parsed(file)):
            if target.split(".")[0] in OPTIONAL:
                homes.setdefault(target.split(".")[0], set()).add(name)
        for target, _, line in imports(parsed(file), everywhere=False):
            if target.split(".")[0] in OPTIONAL and not name.startswith("kernels/"):
                wrong.append(f"{name}:{line}: {target} is optional: import it in the function that needs it")
    wrong += [f"{package}: imported in {sorted(places)}" for package, places in homes.items() if len(places) > 1]
    assert not wrong, "\n".join(wrong)


def config_classes() -> Iterator[type[Config]]:
    for module in pkgutil.walk_packages(vidar.__path__, "vidar."):
        for found in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(found) and issubclass(found, Config) and found.__module__ == module.name:
                yield found


def test_config_slots_are_open():
    """No field names several kinds of configs: it names their base class, and any config of that base fits."""

    def kinds(annotation: object) -> list[object]:
        if inspect.isclass(annotation):
            return [annotation] if issubclass(annotation, Config) else []
        parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
        return [kind for part in parts for kind in kinds(part)]

    owners = [*config_classes()]
    fields = [(one.__name__, name, info.annotation) for one in owners for name, info in one.model_fields.items()]
    assert len(fields) > 400
    assert not [(owner, name) for owner, name, annotation in fields if len(kinds(annotation)) > 1]


def test_few_ask_for_the_class_of_a_config():
    lines = [line for file in files(FOLDERS[:-1]) for line in file.read_text().splitlines()]
    asked = [line for line in lines if re.search(r"isinstance\(.*Config", line)]
    assert len(asked) <= 10, "\n".join(asked)


def test_init_files_hold_no_logic():
    for file in files():
        if file.name != "__init__.py":
            continue
        for node in parsed(file).body:
            if file == ROOT / "vidar" / "__init__.py":
                plain = isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign | ast.FunctionDef)
            else:
                exports = isinstance(node, ast.Assign) and (
                    ast.unparse(node.targets[0]) == "__all__" or isinstance(node.value, ast.BinOp)  # a union of types
                )
                plain = isinstance(node, ast.Import | ast.ImportFrom) or exports
                plain |= isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert plain, f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:60]}"


@pytest.mark.parametrize("name", LINKED)
def test_folders_are_linked(name):
    link = ROOT / "vidar" / name
    assert link.is_symlink() and os.readlink(link) == f"../{name}"
    assert (link / "__init__.py").is_file()


def test_public_names_resolve():
    assert set(vidar._LAZY) <= set(vidar.__all__)
    for name in vidar.__all__:
        assert getattr(vidar, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vidar.nonsense  # noqa: B018


def test_import_and_help_leave_torch_alone():
    code = """
import sys
import vidar
assert "torch" not in sys.modules, "import vidar"
from vidar.cli import app
from typer.main import get_command
for words in ([], ["record"], ["data", "validate"], ["train"], ["generate"], ["order"], ["doctor"]):
    get_command(app).main([*words, "--help"], standalone_mode=False)
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout
