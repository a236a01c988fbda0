"""`Vidar/World-v0` in gymnasium's registry; the environments themselves are imported when one is made."""

from __future__ import annotations

from gymnasium.envs.registration import register

register("Vidar/World-v0", entry_point="vidar.play.env:WorldEnv", vector_entry_point="vidar.play.env:WorldVectorEnv")
