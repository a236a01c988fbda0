"""Clips of latents of which a part is seen as a world dreamed it: training on true rollouts of seconds."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import torch
from pydantic import Field
from torch import Tensor

from vidar.data.index import load_index
from vidar.model.load import load, load_world_config, locate
from vidar.rng import Rng
from vidar.train.encoded import component_digest
from vidar.train.latents import LatentBatch, LatentClips, LatentClipsConfig
from vidar.types import UsageError, VidarError

TOGETHER = 32  # dreams


class DreamedClipsConfig(LatentClipsConfig):
    """As LatentClipsConfig; `share` of the clips are seen as the world `world`, a name or a folder, dreamed them.

    The world dreams `dreams` episodes on from `known` real frames, for `frames` frames under their recorded actions.
    What is seen of a clip is then the dream, and its targets stay the recorded frames: the model learns to return to
    them from where a world really goes (compare DAgger, Ross et al. 2011; the error bank of LongLive 2.0).

    aligned: largest error of what is seen of a clip (but for its last frame), in units of the error of two unrelated
    frames. A dream that has left the recording shows another place, from which nothing leads back. Choice: 0.5.
    """

    world: str
    share: float = Field(default=0.5, ge=0, le=1)
    dreams: int = Field(default=512, ge=1)
    known: int = Field(default=16, ge=1)
    frames: int = Field(default=70, ge=1)
    aligned: float = Field(default=0.5, gt=0)

    def build(self) -> DreamedClips:
        """Dream. Raises UsageError or VidarError, before that, for a world or data that do not fit."""
        _check(self)
        return DreamedClips(self)


class DreamedClips(LatentClips):
    """`batch(index)` is a pure function of the index.

    seen: codes bfloat16 [D, T, n, C], the last real frames and the dream; places long [D, T]: frame numbers of the
    data; kept long [W, 2]: dream and first frame of each aligned clip.
    """

    def __init__(self, config: DreamedClipsConfig):
        super().__init__(config)
        self.config: DreamedClipsConfig = config
        count = config.clip_frames
        self.places = self._places()
        real = min(config.known, count - 1)  # frames of the context that a clip may begin in
        self.seen = self._dreamed(real)
        self.places = self.places[:, config.known - real :]
        error = self._errors()
        begins = error.unfold(1, count - 1, 1).mean(-1)[:, : error.shape[1] - count + 1]
        begins[:, 0] = torch.inf if real == count - 1 else begins[:, 0]  # all that is seen of it is real
        self.kept = (begins <= config.aligned).nonzero()
        if len(self.kept) == 0:
            raise VidarError(
                f"{config.world}: no dream of it stays with its recording for {count} frames; raise data.aligned"
            )

    def batch(self, index: int) -> LatentBatch:
        """Running batch `index`, from 0."""
        plain, chosen = super().batch(index), dict[int, tuple[int, slice]]()
        for row, number in enumerate(plain.number.tolist()):
            rng = Rng(self.config.seed, number)
            if float(rng.uniform("dreamed_share")) >= self.config.share:
                continue
            number = int(float(rng.uniform("dreamed_clip")) * len(self.kept))
            dream, begin = self.kept[min(number, len(self.kept) - 1)].tolist()
            chosen[row] = dream, slice(begin, begin + self.config.clip_frames)
        return self.replaced(plain, chosen)

    def replaced(self, plain: LatentBatch, chosen: dict[int, tuple[int, slice]]) -> LatentBatch:
        """The batch with a part of a dream in the place of each chosen row."""
        seen, codes, actions, names = plain.codes.clone(), plain.codes.clone(), plain.actions.clone(), list(plain.names)
        for row, (dream, span) in chosen.items():
            places = self.places[dream, span]
            seen[row], codes[row], actions[row] = self.seen[dream, span], self.codes[places], self.actions[places]
            names[row] = f"dream {dream}@{span.start}"
        return replace(plain, codes=codes, actions=actions, names=names, seen=seen)

    def _places(self) -> Tensor:
        """The frames of each dream, drawn from all episodes that are long enough: numbers over all frames [D, T]."""
        c = self.config
        length = c.known + c.frames
        lengths = self.first.diff()
        windows = torch.cat([lengths.new_zeros(1), (lengths - length + 1).clamp(min=0).cumsum(0)])
        if not int(windows[-1]):
            raise UsageError(f"{c.path}: no episode has {length} frames (data.known + data.frames)")
        drawn = [int(float(Rng(c.seed, d).uniform("dreamed_start")) * int(windows[-1])) for d in range(c.dreams)]
        place = torch.tensor(drawn).clamp(max=int(windows[-1]) - 1)
        episode = torch.searchsorted(windows, place, right=True) - 1
        return (self.first[episode] + place - windows[episode])[:, None] + torch.arange(length)

    @torch.inference_mode()
    def _dreamed(self, real: int) -> Tensor:
        """The last `real` frames of the context and the dream: [D, real + frames, n, C]."""
        c, world, found = self.config, load(self.config.world), list[Tensor]()
        for begin in range(0, c.dreams, TOGETHER):
            places = self.places[begin : begin + TOGETHER]
            codes, actions = self.codes[places].float(), self.actions[places]
            rngs = [Rng(c.seed, begin + d) for d in range(len(places))]
            ahead = iter(actions[:, c.known :].unbind(1))
            made = world.codes(codes[:, : c.known], ahead, actions[:, : c.known], rngs)
            made = torch.stack(list(islice(made, c.frames)), 1)
            found.append(torch.cat([codes[:, c.known - real : c.known], made], 1).to(torch.bfloat16))
        return torch.cat(found)

    def _errors(self) -> Tensor:
        """Mean squared error of each dreamed frame over that of two unrelated frames, [D, T]."""
        truth = self.codes[self.places].float()
        spread = 2 * truth.flatten(0, 2).var(0)
        return ((self.seen.float() - truth).square() / spread).mean((2, 3))


def _check(config: DreamedClipsConfig) -> None:
    if config.annotation is not None:
        raise UsageError(f"{config.path}: dreams with data.annotation are not supported; leave one of them out")
    folder = locate(config.world)
    world, names = load_world_config(folder), load_index(config.path).spec.names
    if component_digest(str(folder / "tokenizer")) != component_digest(config.tokenizer):
        raise UsageError(f"{config.world}: its tokenizer is not data.tokenizer ({config.tokenizer}), give that one")
    if world.patch != config.patch or world.spec.names != names:
        raise UsageError(
            f"{config.world}: has patch {world.patch} and the actions {', '.join(world.spec.names)}, the data "
            f"{config.patch} and {', '.join(names)}"
        )
