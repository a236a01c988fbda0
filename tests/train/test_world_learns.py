"""A world is trained from nothing and must beat the trivial answers: the claim of the table of systems, smaller."""

import pytest
import torch

from vidar.configs.shapes import tokenizer_shapes, world_shapes
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.eval.world_eval import evaluate
from vidar.train.fit import fit
from vidar.world.load import load


@pytest.mark.slow
def test_a_small_world_beats_copy_last_and_follows_its_actions(tmp_path):
    data = str(tmp_path / "shapes")
    record(ShapesConfig(frames=32), None, data, episodes=160, seed=0)
    record(ShapesConfig(frames=32), None, data, episodes=32, seed=1_000_000, split="heldout")
    torch.set_num_threads(2)
    fit(tokenizer_shapes(data=data, minutes=2.0), out=tmp_path / "tokenizer")
    fit(world_shapes(data=data, tokenizer=str(tmp_path / "tokenizer/model"), minutes=5.0), out=tmp_path / "world")
    world = load(tmp_path / "world/model")
    scores = evaluate(world, list(episodes(data, "heldout", extras=())), 8, 16)
    for baseline in ("copy_last", "shuffled_actions"):
        assert scores.gains[baseline].low > 0, f"not above {baseline}: {scores.gains[baseline]}"
