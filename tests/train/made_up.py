"""Any recipe on made-up clips: no files, no codec, the same bits everywhere."""

import inspect
from functools import partial

import numpy as np
import torch

from vidar.actions import Action, ActionSpec
from vidar.conditioning.label import LabelEmbedConfig
from vidar.conditioning.text import ByteEncoderConfig, utf8
from vidar.config import Config
from vidar.configs.doom import ACTIONS, world_doom
from vidar.configs.memory_forcing import doom_memory
from vidar.data.loader import ClipBatch, ClipsConfig
from vidar.model.geometry import MARKS
from vidar.model.load import save
from vidar.nn.pretrained import save_component
from vidar.rng import Rng
from vidar.train.dreams import DreamBatch, DreamClipsConfig
from vidar.train.latents import LatentBatch, LatentClipsConfig
from vidar.train.outcomes import OutcomeBatch, OutcomeClipsConfig
from vidar.train.pictures import PictureBatch, PictureClipsConfig
from vidar.train.remembered import RememberedClipsConfig
from vidar.train.walks import WalkBatch, WalksConfig
from vidar.types import Segment


class MadeUpConfig(Config):
    """Clips for `like`. sites, channels: of latents. repeat: always the same clips, under new numbers.

    reader, frames: of pictures, what reads their class or text, and latent frames.
    """

    like: ClipsConfig | LatentClipsConfig | DreamClipsConfig | OutcomeClipsConfig | PictureClipsConfig
    reader: Config | None = None
    frames: int = 1
    spec: ActionSpec
    size: tuple[int, int] = (32, 40)
    sites: int = 0
    channels: int = 0
    repeat: bool = False

    def build(self):
        return MadeUp(self)


class MadeUp:
    """Squares that slide over a plain ground, or latents that follow their actions."""

    reward_scale = 5.0

    def __init__(self, config):
        self.config = config

    def batch(self, index):
        like = self.config.like
        numbers = torch.arange(index * like.batch, (index + 1) * like.batch)
        clips = range(like.batch) if self.config.repeat else numbers.tolist()
        names = [f"clip{n}" for n in clips]
        if isinstance(like, DreamClipsConfig):
            video = torch.stack([self._frames(n)[0][:1] for n in clips])
            return DreamBatch(video, thumbnails(video, self.config.channels), numbers, names)
        if isinstance(like, OutcomeClipsConfig):
            codes, actions = (torch.stack(part) for part in zip(*map(self._latents, clips)))
            u = torch.stack([Rng(8, n).uniform("init", shape=(2,)) for n in clips]).float()
            return OutcomeBatch(codes, actions[:, 1], 10 * u[:, 0], (u[:, 1] < 0.5).float(), numbers, names)
        if isinstance(like, WalksConfig):
            return self._walks(clips, numbers, names)
        if isinstance(like, PictureClipsConfig):
            codes = torch.stack([self._latents(n)[0] for n in clips])
            return PictureBatch(codes, *self._told(clips), numbers, names)
        make = self._latents if isinstance(like, LatentClipsConfig) else self._frames
        seen, actions = (torch.stack(part) for part in zip(*map(make, clips)))
        unknown = torch.zeros(actions.shape[:2], dtype=torch.bool)
        unknown[:, 0] = True
        if getattr(like, "extras", ()):
            makers = {"pose": self._pose, "depth": self._depth}
            extras = {name: torch.stack([*map(makers[name], clips)]) for name in like.extras}
            return ClipBatch(seen, actions, unknown, numbers, names, extras)
        if isinstance(like, RememberedClipsConfig):
            views = torch.stack([self._views(n) for n in clips])
            return LatentBatch(seen, actions, unknown, numbers, names, views=views)
        kind = LatentBatch if isinstance(like, LatentClipsConfig) else Segment
        return kind(seen, actions, unknown, numbers, names)

    def _actions(self, number):
        """float32 [T, A], every action legal."""
        like = self.config.like
        frames = 2 if isinstance(like, OutcomeClipsConfig) else getattr(like, "clip_frames", self.config.frames)
        u = Rng(5, number).uniform("policy", shape=(frames, self.config.spec.width)).numpy()
        actions = np.zeros(u.shape, np.float32)
        for column, action in enumerate(self.config.spec.actions):
            values = action.lowest + u[:, column] * (action.highest - action.lowest + (action.kind != "continuous"))
            actions[:, column] = values if action.kind == "continuous" else np.floor(values)
        actions[0] = 0
        return actions

    def _frames(self, number):
        """uint8 [T, H, W, 3] and actions."""
        actions, (height, width) = self._actions(number), self.config.size
        u = Rng(6, number).uniform("init", shape=(8,)).numpy()
        video = np.empty((len(actions), height, width, 3), np.uint8)
        video[:] = (255 * u[:3]).astype(np.uint8)
        moved = 3 * np.cumsum(actions[:, 0] - actions[:, -1]).astype(int)
        for frame, shift in zip(video, moved):
            top, left = int(u[6] * height * 0.6), (int(u[7] * width) + int(shift)) % (width - 8)
            frame[top : top + 10, left : left + 8] = (255 * u[3:6]).astype(np.uint8)
        return torch.from_numpy(video), torch.from_numpy(actions)

    def _pose(self, number):
        """float32 [T, 4] of a player who turns with the actions and walks."""
        steps = self._actions(number).sum(1).cumsum()
        return torch.from_numpy(np.stack([9 * steps, -steps, 0 * steps, 4 * steps], 1).astype(np.float32))

    def _depth(self, number):
        """uint8 [T, H, W] of a floor that comes nearer with the actions."""
        nearer = self._actions(number).sum(1).cumsum()
        rows = torch.arange(self.config.size[0])[:, None].expand(self.config.size)
        return torch.stack([(rows // 2 + 30 - min(int(step), 20)).to(torch.uint8) for step in nearer])

    def _views(self, number):
        """float32 [T, n, W]: the true codes, of which nothing is shown at the first half of the sites."""
        codes = self._latents(number)[0].float()
        marks = torch.ones(*codes.shape[:2], MARKS * self.config.like.patch**2)
        shown = torch.cat([codes, marks], -1)
        shown[:, : codes.shape[1] // 2] = 0
        return shown

    def _walks(self, clips, numbers, names):
        """Steps of which each key is one map unit, as far as the nearest wall allows."""
        like = self.config.like
        actions = torch.stack([torch.from_numpy(self._actions(n)[1:]) for n in clips])
        past = actions.sum(-1, keepdim=True).expand(-1, -1, 3)
        ranges = torch.stack([Rng(4, n).uniform("init", shape=(like.rays,)) for n in clips]).float() * like.reach
        moved = past[:, -1].minimum(ranges.amin(1, keepdim=True))
        before = torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], 1)
        return WalkBatch(actions, before, ranges, moved, numbers, names)

    def _latents(self, number):
        """bfloat16 [T, n, C] and actions."""
        actions, config = self._actions(number), self.config
        rng, shape = Rng(7, number), (config.sites, config.channels)
        start, way = rng.normal("init", shape=shape), 0.1 * rng.normal("init", 1, shape=shape)
        steps = torch.from_numpy(actions[:, :1].cumsum(0))[..., None]
        return (start + way * steps).to(torch.bfloat16), torch.from_numpy(actions)

    def _told(self, numbers):
        """Classes, captions or features of pictures, and their mask."""
        reader, u = self.config.reader, [Rng(9, n).uniform("init", shape=(4,)) for n in numbers]
        if isinstance(reader, LabelEmbedConfig):
            return torch.tensor([int(reader.num_labels * x[0]) for x in u]), torch.ones(len(u), dtype=torch.bool)
        if isinstance(reader.encoder, ByteEncoderConfig):
            return utf8([f"a picture of {x[0]:.2f}" for x in u], reader.encoder.most)
        features = torch.stack([Rng(9, n).normal("token", shape=(6, reader.encoder.width)) for n in numbers])
        return features.float(), torch.arange(6) < torch.tensor([2 + int(4 * x[0]) for x in u])[:, None]


def thumbnails(video, channels):
    """uint8 [B, T, H, W, 3] -> what a perfect dream would hold: means over 8 x 8 pixels, [B, channels, T, h, w]."""
    small = torch.nn.functional.avg_pool3d(video.permute(0, 4, 1, 2, 3).float() / 64 - 2, (1, 8, 8))
    return small.repeat(1, -(-channels // 3), 1, 1, 1)[:, :channels]


def as_it_is(module):
    return module


def teacher(folder, drawn=as_it_is):
    """A tiny doom whose answers are not nothing."""
    torch.manual_seed(1)
    world = world_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in world.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    drawn(world.net)
    save(world, folder, torch.float32)
    return folder


def made_up(recipe, folder, repeat=False, preset="tiny", drawn=as_it_is, **changes):
    """A recipe on made-up clips, the parts it starts from fresh in `folder`, in fp32 and bounded by steps alone.

    drawn: gives those parts other weights.
    """
    arguments = inspect.signature(recipe).parameters
    part = next((name for name in ("tokenizer", "world") if name in arguments), None)
    parts = {part: str(folder)} if part else {}
    if "teacher" in arguments:
        parts["teacher"] = str(teacher(folder.with_name("teacher"), drawn))
    if part == "world":  # before the recipe, which may read it
        torch.manual_seed(0)
        world = world_doom(preset=preset).method.world.build()
        drawn(world.net), drawn(world.tokenizer)
        save(world, folder, torch.float32)
    torch.manual_seed(0)
    if "depth" in arguments:
        parts["depth"] = str(folder.with_name("depth"))
        doom_memory(preset).depth.build().save_pretrained(parts["depth"])
    if "memory" in arguments:
        parts["memory"] = str(folder.with_name("memory"))
        save_component(doom_memory(preset).build(), doom_memory(preset), parts["memory"])
    recipe = partial(recipe, preset=preset, **parts)
    config = recipe()
    pictures = getattr(config.method, "pictures", None)
    world = getattr(config.method, "world", None) if part == "tokenizer" else None
    torch.manual_seed(0)
    if world or pictures:
        tokenizer = (world or pictures).tokenizer
        save_component(drawn(tokenizer.build()), tokenizer, folder)
    head = getattr(config.method, "head", None)
    spec = world.actions if world else getattr(head or getattr(config.method, "model", None), "spec", None)
    spec = spec if spec and spec.width else ActionSpec(actions=(Action(name="push"),))
    data = MadeUpConfig(like=config.data, spec=spec, repeat=repeat)
    if world:
        height, width = world.sites
        data = data.replace(sites=height * width, channels=world.channels)
    if pictures:
        _, height, width = pictures.tokenizer.pyramid.sizes[-1]
        data = data.replace(sites=height * width, channels=pictures.channels)
        data = data.replace(reader=pictures.net.conditioner, frames=pictures.latent_frames(pictures.frames))
    tokenizer = getattr(config.method, "tokenizer", None)
    stride = getattr(tokenizer, "space_stride", 8)
    data = data.replace(size=tuple(-(-side // stride) * stride for side in data.size))
    if hasattr(tokenizer, "pyramid"):
        data = data.replace(size=tuple(side * stride for side in tokenizer.pyramid.sizes[-1][1:]))
    if head:
        data = data.replace(sites=head.rows * head.columns, channels=head.channels)
    elif part == "world":
        data = data.replace(size=(64, 80), channels=config.method.losses.tokenizer.latent_channels)
    if isinstance(config.data, WalksConfig):
        data = data.replace(spec=ACTIONS)
    if hasattr(config.method, "model"):
        data = data.replace(size=(config.method.model.height, config.method.model.width))
    plain = {"compile": False, "precision": "fp32", "sample_every": 0, "minutes": None, "log_every": 1}
    return config.replace(data=data, **{**plain, **changes})
