"""ViZDoom (Wydmuch, Kempka, Jaskowski: ViZDoom Competitions, 2018) as a source of episodes.

The game renders 4:3 images at the smallest resolution that is at least twice the requested size. A centred box of the
wanted aspect ratio is cropped (pixels stay square) and averaged down. For 64 x 80: 256 x 192, the middle 240 x 192 of
it, means over 3 x 3. The field of view is 90 degrees before the crop. HUD and messages are not drawn.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image
from pydantic import Field

import vidar
from vidar.actions import Action, ActionSpec
from vidar.config import Config
from vidar.data.episode import Episode, ending
from vidar.data.explore import ActionPolicy, ExplorePolicyConfig, View
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

TICS_PER_SECOND = 35
SCREENS = (
    (160, 120),
    (256, 192),
    (320, 240),
    (400, 300),
    (512, 384),
    (640, 480),
    (800, 600),
    (1024, 768),
    (1600, 1200),
)
KEYS = {
    "TURN_LEFT": ("ArrowLeft",),
    "TURN_RIGHT": ("ArrowRight",),
    "MOVE_FORWARD": ("ArrowUp", "w"),
    "MOVE_BACKWARD": ("ArrowDown", "s"),
    "MOVE_LEFT": ("a",),
    "MOVE_RIGHT": ("d",),
    "ATTACK": (" ",),
    "USE": ("e",),
    "SPEED": ("Shift",),
    "JUMP": ("j",),
    "CROUCH": ("c",),
    **{f"SELECT_WEAPON{digit}": (str(digit),) for digit in range(10)},
    "SELECT_NEXT_WEAPON": ("]",),
    "SELECT_PREV_WEAPON": ("[",),
}
LICENSE = "engine and scenario: ViZDoom (MIT); textures, sprites: Freedoom (BSD-3-Clause)"


class VizdoomConfig(Config):
    """A scenario that ships with ViZDoom (or the path of a .cfg file), and the size and length of its episodes."""

    scenario: str = "my_way_home"
    height: int = Field(default=64, ge=8, le=600)
    width: int = Field(default=80, ge=8, le=800)
    frame_skip: int = Field(default=2, ge=1, le=35)  # tics per frame; the game runs at 35 tics per second
    frames: int = Field(default=300, ge=2)  # maximum; a game may end earlier

    @property
    def fps(self) -> float:
        """Frames per second of the recording."""
        return TICS_PER_SECOND / self.frame_skip

    def build(self) -> VizdoomGame:
        """Start the game. Raises VidarError if ViZDoom is missing, UsageError for an unknown scenario."""
        return VizdoomGame(self)


def scenario_file(name: str) -> Path:
    """The absolute .cfg file of a scenario. Raises VidarError if ViZDoom is missing, UsageError with near matches."""
    try:
        import vizdoom
    except ImportError:
        remedy = f"pip install '{vidar.DISTRIBUTION}[vizdoom]'"
        raise VidarError(f"recording Doom needs the package vizdoom: {remedy}") from None
    if name.endswith(".cfg"):
        if not Path(name).is_file():
            raise UsageError(f"{name}: no such scenario file")
        return Path(name).resolve()
    folder = Path(vizdoom.scenarios_path)
    names = sorted(file.stem for file in folder.glob("*.cfg") if file.with_suffix(".wad").is_file())
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join(names)}"
        raise UsageError(f"ViZDoom has no scenario {name!r}; {hint}")
    return folder / f"{name}.cfg"


def screen_and_box(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The (width, height) to render at, and the centred box (left, top, right, bottom) of aspect height:width."""
    wide_enough = (screen for screen in SCREENS if min(screen[0] / width, screen[1] / height) >= 2)
    w, h = next(wide_enough, SCREENS[-1])
    scale = min(w / width, h / height)
    box_w, box_h = round(width * scale), round(height * scale)
    left, top = (w - box_w) // 2, (h - box_h) // 2
    return (w, h), (left, top, left + box_w, top + box_h)


class VizdoomGame:
    """One running game. `episode(seed)` depends on config, seed and policy only, and not on earlier episodes."""

    def __init__(self, config: VizdoomConfig) -> None:
        file = scenario_file(config.scenario)
        import vizdoom as vzd

        self.config = config
        self.name = file.stem
        (w, h), self.box = screen_and_box(config.height, config.width)
        self.folder = _work_folder()
        game = vzd.DoomGame()
        game.load_config(str(file))
        game.set_doom_config_path(os.path.join(self.folder.name, "vizdoom.ini"))
        game.set_mode(vzd.Mode.PLAYER)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_screen_format(vzd.ScreenFormat.RGB24)
        game.set_screen_resolution(getattr(vzd.ScreenResolution, f"RES_{w}X{h}"))
        game.set_render_hud(False)
        game.set_render_messages(False)
        game.set_depth_buffer_enabled(True)
        game.set_labels_buffer_enabled(True)
        game.set_available_game_variables([getattr(vzd.GameVariable, f"POSITION_{axis}") for axis in "XYZ"])
        game.add_available_game_variable(vzd.GameVariable.ANGLE)
        self.spec = action_spec([button.name for button in game.get_available_buttons()])
        try:
            with _working_in(self.folder.name):
                game.init()
        except Exception as error:  # the binding raises its own types, with several lines of text
            self.folder.cleanup()
            raise VidarError(f"ViZDoom did not start: {str(error).splitlines()[0]}") from error
        self.game = game

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the engine."""
        self.game.close()
        self.folder.cleanup()

    def episode(self, seed: int, policy: ActionPolicy | None = None) -> Episode:
        """Play one game. Raises VidarError if it ends before its second frame.

        The engine does not show the end. The last visible frame represents it, and its reward includes the reward of
        the action that ended the game.
        """
        policy = policy or ExplorePolicyConfig().build()
        self.game.set_seed(seed % 2**32)
        self.game.new_episode()
        policy.start(self.spec, Rng(seed))
        names: dict[str, int] = {}
        seen = [self._look(self.game.get_state(), names)]
        rows, rewards, ended = [np.zeros(self.spec.width, np.float32)], [0.0], False
        while len(seen) < self.config.frames:
            row = policy(View(seen[-1]["frame"], seen[-1]["depth"], seen[-1]["pose"]))
            reward = self.game.make_action([float(v) for v in row], self.config.frame_skip)
            state = self.game.get_state()
            if state is None:  # pyright: ignore[reportUnnecessaryComparison]  # the stub leaves out a game that is over
                rewards[-1] += reward
                ended = not self._timed_out()
                break
            seen.append(self._look(state, names))
            rows.append(row)
            rewards.append(reward)
        if len(seen) < 2:
            raise VidarError(f"{self.name}: the game of seed {seed} ended before its second frame; choose another seed")
        table = {key: np.stack([look[key] for look in seen]) for key in seen[0]}
        return Episode(
            frames=table.pop("frame"),
            actions=np.stack(rows),
            fps=self.config.fps,
            spec=self.spec,
            name=f"{self.name}-{seed:09d}",
            source=f"vizdoom:{self.name}",
            extras={**table, "rewards": np.array(rewards, np.float32), "ended": ending(len(rows), ended)},
            meta={
                "seed": seed,
                "scenario": self.name,
                "frame_skip": self.config.frame_skip,
                "labels": names,
                "license": LICENSE,
            },
        )

    def _timed_out(self) -> bool:
        """Whether the scenario's time is up; its clock starts at the start time (the engine knows from 1.3 on)."""
        timeout = self.game.get_episode_timeout()
        return 0 < timeout <= self.game.get_episode_time() - self.game.get_episode_start_time()

    def _look(self, state: Any, names: dict[str, int]) -> dict[str, np.ndarray]:
        size = (self.config.width, self.config.height)

        def small(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
            return np.asarray(Image.fromarray(picture).resize(size, how, box=self.box))

        labels = np.zeros_like(state.labels_buffer)
        for label in state.labels:  # the engine's values change from frame to frame; ours depend on the name
            labels[state.labels_buffer == label.value] = names.setdefault(label.object_name, len(names) + 1)
        return {
            "frame": small(state.screen_buffer, Image.Resampling.BOX),
            "depth": small(state.depth_buffer, Image.Resampling.NEAREST),
            "labels": small(labels, Image.Resampling.NEAREST),
            "pose": np.array(state.game_variables, dtype=np.float32),
        }


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    """A private folder, in which the engine writes an .ini file and its folder _vizdoom."""
    try:
        return tempfile.TemporaryDirectory(prefix="vidar-vizdoom-", ignore_cleanup_errors=True)
    except OSError as error:
        raise VidarError(f"ViZDoom needs a folder for temporary files ({error.strerror}); set TMPDIR to one") from None


@contextmanager
def _working_in(folder: str) -> Generator[None]:
    """Run a block in another working directory: the engine starts in that of this process, and must write there."""
    before = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def action_spec(buttons: list[str]) -> ActionSpec:
    """One column per button: binary, or continuous in [-15, 15] (degrees, map units) for the *_DELTA buttons."""
    return ActionSpec(
        actions=tuple(
            Action(name=name, kind="continuous", low=-15.0, high=15.0)
            if name.endswith("_DELTA")
            else Action(name=name, keys=KEYS.get(name, ()))
            for name in buttons
        )
    )


def episodes(config: VizdoomConfig, count: int, seed: int = 0, policy: ActionPolicy | None = None) -> Iterator[Episode]:
    """The games of the seeds seed .. seed + count - 1."""
    with config.build() as game:
        for number in range(seed, seed + count):
            yield game.episode(number, policy)
