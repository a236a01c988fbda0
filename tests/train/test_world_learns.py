"""A world is trained on a real game and must beat the trivial answers: the claim of the table of systems, smaller."""

import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.vizdoom import VizdoomConfig
from vidar.eval.world_eval import evaluate
from vidar.model.load import load, locate
from vidar.train.fit import fit


@pytest.mark.slow
def test_a_small_world_beats_copy_last_and_follows_its_actions(tmp_path):
    """A tenth of the data, half of the minutes, the shipped tokenizer; 128 held-out episodes for narrow intervals."""
    data, tokenizer = str(tmp_path / "doom"), str(locate("doom") / "tokenizer")
    record(VizdoomConfig(frames=200), None, data, episodes=48, seed=0)
    record(VizdoomConfig(frames=32), None, data, episodes=140, seed=1_000_000, split="heldout")
    torch.set_num_threads(2)
    fit(world_doom(data=data, tokenizer=tokenizer, minutes=8.0), out=tmp_path / "world")
    world = load(tmp_path / "world/model")
    held = [e for e in episodes(data, "heldout", extras=()) if len(e.frames) == 32][:128]
    scores = evaluate(world, held, world.config.context, 16)
    for baseline in ("copy_last", "shuffled_actions"):
        assert scores.gains[baseline].low > 0, f"not above {baseline}: {scores.gains[baseline]}"
