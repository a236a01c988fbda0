"""Environments by their id: what is missing or fails is named in one line."""

import sys
from importlib.util import find_spec

import pytest

from vidar.data.gym import GymConfig, GymRecorder
from vidar.types import UsageError, VidarError


def test_an_unknown_id_names_near_matches_in_one_line():
    with pytest.raises(UsageError, match="no environment 'CartPol-v1'; did you mean .*CartPole-v1") as error:
        GymConfig(env_id="CartPol-v1").build()
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no environment 'nosuchmodule:X-v0'"):
        GymConfig(env_id="nosuchmodule:X-v0").build()


@pytest.mark.parametrize("error", [RuntimeError("no licence"), SystemExit(3), OSError(2, "No such file")])
def test_what_a_constructor_raises_is_one_line(registered, error):
    def make(render_mode=None):
        raise error

    with pytest.raises(VidarError, match=f"VidarTest-v0: cannot be made: {type(error).__name__}") as raised:
        GymConfig(env_id=registered(make)).build()
    assert "\n" not in str(raised.value)


def test_missing_packages_are_named(tmp_path, monkeypatch, registered):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "vidar_test_game.py").write_text("import vidar_test_engine.core\n")
    (tmp_path / "vidar_test_broken.py").write_text("raise RuntimeError('no display')\n")
    (tmp_path / "vidar_test_old.py").write_text("from gymnasium import NoSuchName\n")
    (tmp_path / "vidar_test_typo.py").write_text("def f(:\n")

    def needs_engine(render_mode=None):
        import vidar_test_engine  # noqa: F401

    for env_id, words in (
        (
            "vidar_test_game:Game-v0",
            "needs the module vidar_test_engine, which is not installed: pip install vidar_test",
        ),
        ("vidar_test_broken:Game-v0", "importing vidar_test_broken raised RuntimeError: no display"),
        ("vidar_test_old:Game-v0", "importing vidar_test_old raised ImportError: cannot import name 'NoSuchName'"),
        ("vidar_test_typo:Game-v0", "importing vidar_test_typo raised SyntaxError"),
        ("vidar_test_nowhere:Game-v0", "no module 'vidar_test_nowhere'; install it, or put its folder on PYTHONPATH"),
        ("vidar_test_nowhere.inner:Game-v0", "no module 'vidar_test_nowhere'"),
        (registered(needs_engine), "needs the module vidar_test_engine, which is not installed"),
        ("VidarSpace/Game-v0", "no environment 'VidarSpace/Game-v0'; .*install the package that has it"),
        ("CartPole-v99", "no environment 'CartPole-v99'; did you mean CartPole-v1"),
    ):
        with pytest.raises(VidarError, match=words) as error:
            GymConfig(env_id=env_id).build()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "env_id, module, package",
    [
        ("ALE/Pong-v5", "ale_py", "ale-py"),
        ("PongNoFrameskip-v4", "ale_py", "ale-py"),
        ("MiniGrid-Empty-5x5-v0", "minigrid", "minigrid"),
        ("BabyAI-GoToLocal-v0", "minigrid", "minigrid"),
        ("FetchReach-v4", "gymnasium_robotics", "gymnasium-robotics"),
    ],
)
def test_the_package_of_a_well_known_environment_is_named(env_id, module, package):
    if find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    with pytest.raises(VidarError, match=f"{env_id} needs the module {module}, .*: pip install {package}$"):
        GymConfig(env_id=env_id).build()


def test_a_module_that_registers_is_imported(tmp_path, monkeypatch, registered):
    monkeypatch.syspath_prepend(tmp_path)
    lines = ["import sys", "import gymnasium", "print('hello')", "gymnasium.register('VidarTest-v1', 'gym_toy:Toy')"]
    (tmp_path / "vidar_test_module.py").write_text("\n".join(lines))
    assert len(GymRecorder("vidar_test_module:VidarTest-v1", frames=3).episode(0).frames) == 3
    sys.modules.pop("vidar_test_module")
