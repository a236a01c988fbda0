"""A small world with a memory, for the tests of the suite."""

import torch

from vidar.configs.memory_forcing import world_doom_memory
from vidar.model.model import VideoModel


def remembering() -> VideoModel:
    """Its network does something, and its depth network sees walls that are near enough for a map."""
    torch.manual_seed(0)
    c = world_doom_memory(preset="tiny").method.world.replace(context=4)
    made = VideoModel(c, c.tokenizer.build(), c.net.build(), memory=c.memory.build())
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made
