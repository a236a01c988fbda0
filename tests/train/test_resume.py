"""A run goes on only as the experiment it was."""

import json

import pytest

from vidar.config import Config
from vidar.train.config import TrainConfig
from vidar.train.fit import fit
from vidar.train.optim import OptimConfig
from vidar.train.resume import check_same, differences
from vidar.types import UsageError, VidarError


class Leaf(Config):
    size: int = 3
    sides: tuple[int, ...] = (1, 2)

    def build(self):
        raise AssertionError("built before the checks")


class Other(Leaf):
    pass


class Part(Config):
    leaf: Leaf | None = Leaf()
    batch: int
    prefetch: int = 2

    def build(self):
        raise AssertionError("built before the checks")


RUN = TrainConfig(name="run", method=Leaf(), data=Part(batch=4), optim=OptimConfig(lr=0.1, steps=10))


@pytest.fixture
def stored(tmp_path):
    """A complete checkpoint of RUN, as far as its config is concerned."""
    from vidar.config import to_dict
    from vidar.train.checkpoint import MARKER

    folder = tmp_path / "checkpoints" / "step-00000003"
    folder.mkdir(parents=True)
    text = json.dumps({"config": to_dict(RUN)})
    (folder / "state.json").write_text(text)
    (folder / MARKER).write_text(json.dumps({"state.json": len(text)}))
    return folder


def edited(folder, edit):
    state = json.loads((folder / "state.json").read_text())
    edit(state["config"])
    (folder / "state.json").write_text(json.dumps(state))


def test_the_same_config_and_harmless_changes_pass(stored):
    check_same(stored, RUN)
    changed = RUN.replace(
        name="other",
        out="elsewhere",
        minutes=3.0,
        compile=True,
        log_every=7,
        optim=RUN.optim.replace(steps=99),
        data=RUN.data.replace(prefetch=0),
    )
    assert len(list(differences(json.loads((stored / "state.json").read_text())["config"], changed))) == 7
    check_same(stored, changed)


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"seed": 1}, "seed was 0, now it is 1; resume with the old value, or start another run"),
        ({"optim": OptimConfig(lr=0.2, steps=10)}, r"optim\.lr was 0\.1, now it is 0\.2"),
        ({"optim": OptimConfig(lr=0.1, steps=10, betas=(0.5, 0.95))}, r"optim\.betas was \[0\.9, 0\.95\], now it is"),
        ({"method": Other()}, "method was Leaf, now it is Other"),
        ({"method": Leaf(sides=(1,))}, r"method\.sides was \[1, 2\], now it is \[1\]"),
        ({"data": Part(batch=4, leaf=Leaf(size=5))}, r"data\.leaf\.size was 3, now it is 5"),
        ({"data": Part(batch=4, leaf=None)}, r"data\.leaf was Leaf, now it is None"),
        ({"seed": 1, "data": Part(batch=5)}, r"data\.batch was 4"),  # the first in the order of the config
    ],
)
def test_another_experiment_is_refused_before_anything_is_built(stored, changes, line):
    with pytest.raises(UsageError, match=line) as error:
        fit(RUN.replace(**changes), stored.parent.parent, resume="auto", device="cpu")
    assert "\n" not in str(error.value) and str(stored) in str(error.value)


def test_a_field_younger_than_the_checkpoint_counts_as_its_default(stored):
    edited(stored, lambda config: (config.pop("check_memory"), config["data"].pop("leaf")))
    check_same(stored, RUN)
    with pytest.raises(UsageError, match=r"data\.leaf\.size was 3, now it is 4"):
        check_same(stored, RUN.replace(data=Part(batch=4, leaf=Leaf(size=4))))
    edited(stored, lambda config: config["data"].pop("batch"))
    with pytest.raises(UsageError, match=r"data\.batch was 'absent'"):
        check_same(stored, RUN)


def test_a_config_that_has_moved_since_is_the_same(stored):
    edited(stored, lambda config: config.update(type="vidar.train.fit.TrainConfig"))
    check_same(stored, RUN)


def test_a_field_that_is_gone_and_a_damaged_state(stored):
    edited(stored, lambda config: config["method"].update(old=1))
    with pytest.raises(UsageError, match=r"method\.old was 1, now it is 'absent'"):
        check_same(stored, RUN)
    (stored / "state.json").write_text("{")
    with pytest.raises(VidarError, match="damaged checkpoint"):
        check_same(stored, RUN)
