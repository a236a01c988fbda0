"""A recipe, a method and its data from a package outside vidar, through the command line."""

import json
import sys
from textwrap import dedent

import pytest

import vidar.config

PACKAGE = '''
    """A line through points."""

    from dataclasses import dataclass
    from pathlib import Path
    from typing import Annotated

    import torch

    from vidar.config import Config
    from vidar.train.config import TrainConfig
    from vidar.train.optim import OptimConfig
    from vidar.types import Loss


    @dataclass(frozen=True)
    class Points:
        x: torch.Tensor
        number: torch.Tensor
        names: list


    class PointsConfig(Config):
        batch_size: int = 4

        def build(self):
            return self

        def batch(self, index):
            number = torch.arange(index * self.batch_size, (index + 1) * self.batch_size)
            return Points((number[:, None] % 7).float(), number, [str(n) for n in number.tolist()])


    class LineConfig(Config):
        slope: float

        def build(self):
            return Line(self)


    class Line:
        def __init__(self, config):
            self.config = config

        def build_model(self):
            return torch.nn.Linear(1, 1)

        def step(self, model, batch, rngs, ranks):
            return Loss((model(batch.x) - self.config.slope * batch.x).square().mean(), {})

        def export(self, model, directory):
            directory.mkdir(exist_ok=True)
            (directory / "slope.txt").write_text(f"{model.weight.item():.2f}")


    def line(slope: Annotated[float, "Slope of the line."] = 2.0, batch: int = 4) -> TrainConfig:
        """Least squares by gradient descent."""
        return TrainConfig(
            name="line",
            method=LineConfig(slope=slope),
            data=PointsConfig(batch_size=batch),
            optim=OptimConfig(lr=0.1, steps=300, weight_decay=0.0),
            ema_decay=0.9,
        )


    def nothing() -> str:
        return "no config"
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Its name; nobody trusts it yet."""
    name = "elsewhere"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "lines.py").write_text(dedent(PACKAGE))
    (tmp_path / name / "broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(vidar.config, "_TRUSTED", {"vidar"})
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def test_train_resume_and_print(run, tmp_path, package):
    recipe = f"{package}.lines.line"
    words = ["slope=3.0", "seed=5", "--out", tmp_path / "run", "--json"]
    code, out, err = run("train", recipe, *words, "--trust", package)
    assert code == 0, err
    assert json.loads(out)["step"] == 300 and json.loads(out)["now"] is None
    assert float((tmp_path / "run" / "model" / "slope.txt").read_text()) == pytest.approx(3.0, abs=0.05)
    code, out, err = run("--trust", package, "train", recipe, *words, "optim.steps=310", "--resume", "auto")
    assert code == 0 and json.loads(out)["step"] == 310, err
    code, out, _ = run("--trust", package, "config", recipe, "batch=2")
    assert code == 0 and f"type: {package}.lines.PointsConfig\n  batch_size: 2" in out
    (tmp_path / "run.yaml").write_text(out)
    assert run("train", tmp_path / "run.yaml", "optim.steps=2", "--out", tmp_path / "again", "--trust", package)[0] == 0


def test_its_parameters_are_listed(run, package):
    code, out, _ = run("train", f"{package}.lines.line", "--trust", package, "--help")
    assert code == 0 and "Least squares by gradient descent." in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert rows["slope"] == ["2.0", "Slope", "of", "the", "line."] and rows["optim.lr"][0] == "0.1"


@pytest.mark.parametrize(
    "recipe, trusted, message",
    [
        ("{}.lines.line", False, "to trust it: --trust {}"),
        ("{}.lines.lime", True, "{}.lines has no 'lime'; did you mean line"),
        ("{}.lines.PointsConfig", True, "{}.lines has no 'PointsConfig'"),
        ("{}.nowhere.line", True, "{}.nowhere cannot be imported (ModuleNotFoundError"),
        ("{}.broken.line", True, "{}.broken cannot be imported (ModuleNotFoundError: No module named 'nothing_of"),
        ("{}.lines.nothing", True, "returns a str; it must return a config"),
        ("os.getcwd", False, "to trust it: --trust os"),
    ],
)
def test_what_is_refused(run, tmp_path, package, recipe, trusted, message):
    words = ["--trust", package] if trusted else []
    code, _, err = run(*words, "train", recipe.format(package), "--out", tmp_path / "out")
    assert code == 2 and message.format(package) in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_not_there(run):
    code, _, err = run("train", "nowhere_at_all.recipe", "--trust", "nowhere_at_all")
    assert code == 2 and "package 'nowhere_at_all' is not found" in err
