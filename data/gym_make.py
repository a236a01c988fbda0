"""gymnasium.make with errors of one line, which name the package that is missing."""

from __future__ import annotations

import difflib
import re
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium

from vidar.data.gym_api import with_current_api
from vidar.types import UsageError, VidarError

PROVIDERS = (  # ids -> the module that registers them, and the package that has it
    (r"ALE/|.*(NoFrameskip|Deterministic)-v\d+$", "ale_py", "ale-py"),
    (r"(MiniGrid|BabyAI)-", "minigrid", "minigrid"),
    (r"MiniWorld-", "miniworld", "miniworld"),
    (r"(Fetch|Hand|AntMaze|PointMaze|Adroit|FrankaKitchen)", "gymnasium_robotics", "gymnasium-robotics"),
    (r"(highway|merge|roundabout|parking|intersection|racetrack)-", "highway_env", "highway-env"),
)


def make(env_id: str) -> gymnasium.Env[Any, Any]:
    """A registered environment with render_mode="rgb_array" if it takes one; `module:ID` imports the module first.

    Raises UsageError with near matches for an unknown id, VidarError naming a missing package or what the constructor
    raised.
    """
    module, _, name = env_id.rpartition(":")
    provider = None
    if module:
        _import(module, env_id)
    else:
        provider = next((row[1:] for row in PROVIDERS if re.match(row[0], name)), None)
        if provider is not None and find_spec(provider[0]) is not None:
            _import(provider[0], env_id)
    try:
        env = _construct(name)
    except gymnasium.error.UnregisteredEnv as error:
        if provider is not None and find_spec(provider[0]) is None:
            raise _missing(env_id, provider[0], provider[1]) from error
        raise UsageError(f"gymnasium has no environment {env_id!r}; {_hint(name)}") from error
    except ModuleNotFoundError as error:
        raise _missing(env_id, error.name or str(error)) from error
    except VidarError:
        raise
    except gymnasium.error.Error as error:
        raise VidarError(f"{env_id}: {first_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise VidarError(f"{env_id}: cannot be made: {type(error).__name__}: {first_line(error)}") from error
    return with_current_api(env, ours=True)


def first_line(error: BaseException) -> str:
    """The first line of the text of an error that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _construct(name: str) -> gymnasium.Env[Any, Any]:
    """With render_mode="rgb_array", or without if the constructor refuses it."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*initialised with render_mode")  # it may have other pictures
            return gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True)
    except (ImportError, gymnasium.error.Error, VidarError):
        raise
    except Exception as refused:
        try:
            return gymnasium.make(name, disable_env_checker=True)
        except Exception:
            raise refused from None


def _import(module: str, env_id: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            remedy = "install it, or put its folder on PYTHONPATH"
            raise UsageError(f"gymnasium has no environment {env_id!r}: no module {error.name!r}; {remedy}") from error
        raise _missing(env_id, error.name or str(error)) from error
    except (Exception, SystemExit) as error:
        raise VidarError(f"{env_id}: importing {module} raised {type(error).__name__}: {first_line(error)}") from error


def _missing(env_id: str, module: str, package: str = "") -> VidarError:
    found = package or module.partition(".")[0]
    return VidarError(f"{env_id} needs the module {module}, which is not installed: pip install {found}")


def _hint(name: str) -> str:
    names = sorted(gymnasium.registry)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near and ("/" not in name or "/" in near[0]):
        return f"did you mean {' or '.join(near)}?"
    return f"{len(names)} are registered; install the package that has it, and write module:ID if it must be imported"
