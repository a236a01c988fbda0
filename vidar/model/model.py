"""VideoModel: tokenizer, network and config; generates frames, streams and clips."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vidar.conditioning.config import Told, moved
from vidar.conditioning.net import WorldNet
from vidar.model.config import ModelConfig
from vidar.model.context import check_size, context_frames
from vidar.model.setting import compiled, setting
from vidar.nn.outcome import OutcomeNet
from vidar.nn.static import Build, check_static
from vidar.rng import Rng
from vidar.rollout.clip import make_clip
from vidar.rollout.setting import Setting
from vidar.rollout.stream import in_turns, shown
from vidar.rollout.turns import Turns
from vidar.sampling.guidance import GuideConfig
from vidar.tokenizers.patch import from_sites, to_sites
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.types import Codes, Model, UsageError

Many = Sequence[Any]


class VideoModelConfig(ModelConfig):
    """The config of a `VideoModel`, see `ModelConfig`."""

    def build(self) -> VideoModel:
        """A model with fresh weights."""
        return VideoModel(self, self.tokenizer.build(), self.net.build())


@dataclass(frozen=True)
class Generated:
    """frames: uint8 [B, T, H, W, 3]. seconds: duration of each frame, or of each network call of a clip."""

    frames: np.ndarray
    seconds: list[float]


class VideoModel:
    """A video model: a world (an endless stream of frames), or a model of images or clips of a fixed length.

    start: path of the default context. outcome: the reward and termination head, or None.
    """

    def __init__(
        self,
        config: VideoModelConfig,
        tokenizer: Any,
        net: WorldNet,
        start: Path | None = None,
        outcome: OutcomeNet | None = None,
        memory: Any = None,
    ):
        self.config, self.tokenizer, self.net, self.start = config, tokenizer.eval(), net.eval(), start
        if outcome is not None:
            config.check_outcome(outcome.config)
        self.outcome = None if outcome is None else outcome.eval()
        self.memory = None if memory is None else memory.eval()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> VideoModel:
        """Move the weights; returns itself. The reward and termination head is small and keeps its dtype."""
        for module in (self.tokenizer, self.net):
            cast(nn.Module, module).to(device=device, dtype=dtype)
        if self.outcome is not None:
            self.outcome.to(device=device)
        return self

    @property
    def pyramid(self) -> Any:
        """The tokenizer's multi-scale quantiser, or None. For clips: a CPU copy, because labels are drawn there."""
        if self.config.tokenizer.pyramid_config is None:
            return None
        own = self.tokenizer.pyramid
        return copy.deepcopy(own).to("cpu", torch.float32) if self.config.clips else own

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.net.backbone.row.device

    @property
    def num_parameters(self) -> int:
        """Number of weights of tokenizer and network."""
        return sum(p.numel() for module in (self.tokenizer, self.net) for p in module.parameters())

    @property
    def looks_back(self) -> bool:
        """Whether the picture of a frame depends on the codes of earlier ones."""
        return self.config.tokenizer.memory > 0

    def model(self, inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        """One network call, with inputs and outputs on the CPU."""
        device = self.device
        return self.net(inputs.to(device), layout, moved(cond, device), state).float().cpu()

    def compiled(self, build: Build | None = None) -> Model:
        """`model` compiled as functions of static shapes, one for each call of a frame.

        build: compiles them; None: `AheadOfTime()` on the CPU (results differ from those of `model` by rounding),
        `Graphed()` on CUDA. Raises UsageError on another device, without a C++ compiler, or if a relation of the order
        folds.
        """
        return compiled(self.net, build)

    def compile(self, build: Build | None = None) -> VideoModel:
        """Compile the network for all further calls (see `compiled`); returns itself. Raises the same UsageErrors."""
        check_static(self.config.system(pyramid=self.pyramid).order.relations.values())
        self.model = self.compiled(build)
        return self

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> codes float32 [B, t, n, C] per latent frame; for clips, before quantisation."""
        check_size(self.config, video.shape[2], video.shape[3], "the context")
        if self.config.order.codes == "pyramids":
            made = self.tokenizer.latents(to_float(video).to(self.device, self.tokenizer.dtype))[0].data
        else:
            made = self.tokenizer.encode(to_float(video).to(self.device))[0].data
        return to_sites(made.float(), self.config.patch).unflatten(1, (made.shape[2], -1)).cpu()

    @torch.inference_mode()
    def decode(self, codes: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Codes [B, t, n, C] of latent frames -> (uint8 [B, T, H, W, 3], tokenizer state)."""
        space = self.config.tokenizer.strides[1]
        shape = (codes.shape[1], self.config.height // space, self.config.width // space)
        latent = from_sites(codes.flatten(1, 2), shape, self.config.patch).to(self.device)
        video, state = self.tokenizer.decode(Codes("latent", latent), state)
        return to_uint8(video).cpu(), state

    @torch.inference_mode()
    def outcomes(self, codes: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, 2, n, C] of two frames, actions [B, A] between them -> reward [B], probability of termination [B].

        Both are float32 on the CPU, and 0 if the model has no head for them.
        """
        if self.outcome is None:
            return torch.zeros(len(codes)), torch.zeros(len(codes))
        reward, logit = self.outcome(codes.float().to(self.device), actions.float().to(self.device))
        return reward.cpu(), logit.sigmoid().cpu()

    def codes(
        self,
        context: Tensor,
        actions: Iterable[Tensor],
        context_actions: Tensor | None = None,
        rngs: Sequence[Rng] | None = None,
        steps: int | None = None,
        renew: int | None = None,
        recache: bool = False,
        told: Sequence[Told] | None = None,
    ) -> Iterator[Tensor]:
        """Yield codes [B, n, C], one frame at a time, until the actions end.

        context: codes [B, T, n, C]. actions: yields [B, A] for each new frame, requested when the frame starts.
        context_actions: [B, T, A], row t acts between frames t-1 and t; None: unknown. A frame is committed in the
        first refinement of the next frame. renew: see `ReencodeEvery` (None: never). recache: see `RecacheOnAction`.
        told: prompt and label per video.
        """
        rngs = rngs or rows(0, len(context))
        for code, _ in shown(self.setting(steps), context, actions, context_actions, rngs, renew, recache, told):
            yield code

    def frames(
        self,
        context: Tensor,
        actions: Iterable[Tensor],
        context_actions: Tensor | None = None,
        rngs: Sequence[Rng] | None = None,
        steps: int | None = None,
        renew: int | None = None,
        recache: bool = False,
        told: Sequence[Told] | None = None,
    ) -> Iterator[Tensor]:
        """As `codes`, for pictures: context uint8 [B, T, H, W, 3] -> yields uint8 [B, H, W, 3]."""
        keep = min(context.shape[1], self.config.context)
        context = context[:, -keep:]
        context_actions = None if context_actions is None else context_actions[:, -keep:]
        rngs, codes = rngs or rows(0, len(context)), self.encode(context)
        asked = codes, actions, context_actions, rngs, renew, recache, told, context
        for _, picture in shown(self.setting(steps), *asked):
            yield picture()

    def setting(
        self, steps: int | None = None, frames: int | None = None, guidance: GuideConfig | None = None
    ) -> Setting:
        """The `Setting` of a rollout of this model.

        steps: network calls per frame; frames: length of a clip; guidance; None: that of the config.
        """
        config = self.config if steps is None else self.config.with_steps(steps)
        config = config if guidance is None else config.replace(guidance=guidance)
        return setting(config, self.net, self.model, self, self.pyramid, frames, self.memory)

    def rollout(self, capacity: int = 1, steps: int | None = None, compiled: bool | Build = False) -> Turns:
        """A rollout of `capacity` rows, which generates a group of frames as soon as its actions are known.

        compiled: whether to compile the network calls now (a minute the first time), or the Build that compiles them.
        Raises UsageError for a model with several frames in flight together, or of clips of a fixed length.
        """
        model = self.compiled(None if compiled is True else compiled) if compiled else None
        return in_turns(self.setting(steps), capacity, model)

    def stream(
        self,
        context: Any = None,
        actions: Iterable[Any] | None = None,
        seed: int = 0,
        context_actions: Any = None,
        steps: int | None = None,
        renew: int | None = None,
        recache: bool = False,
        prompt: Any = None,
        label: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the frames uint8 [H, W, 3] of one video until the actions end.

        context: uint8 [T, H, W, 3], one frame [H, W, 3], or the path of a video; None: the model's start clip. actions:
        [A] for each new frame, requested one by one; None: no key is pressed and the stream is endless. prompt, label:
        text or class, for models that take one. Raises UsageError for a model of clips of a fixed length.
        """
        if self.config.clips:
            raise UsageError(f"model {self.config.name!r} makes clips of a fixed length, not streams; use generate")
        self.config.check_told(told := Told(prompt, label))
        known = self.context_frames(context)
        source = repeat(self.config.spec.noop()) if actions is None else self._checked(actions)
        steps_of = (torch.as_tensor(np.asarray(a, np.float32))[None] for a in source)
        before = None if context_actions is None else torch.as_tensor(context_actions, dtype=torch.float32)[None]
        for frame in self.frames(known[None], steps_of, before, [Rng(seed)], steps, renew, recache, [told]):
            yield frame[0].numpy()

    def generate(
        self,
        context: Any = None,
        actions: Any = None,
        num_frames: int | None = None,
        seed: int | Many = 0,
        context_actions: Any = None,
        steps: int | None = None,
        *,
        prompt: Any = None,
        label: int | Many | None = None,
        guidance: GuideConfig | None = None,
    ) -> Generated:
        """Generate frames uint8 [B, T, H, W, 3] from the context, actions, prompt and label that the model takes.

        A world generates `num_frames` frames (default: one per action) of one video after its context, see `stream`. A
        model of images or clips generates one video per prompt (words, or a pair of features and mask) or label; seed:
        one for the job (row b is its video b), or one per video; context: uint8 [B, T, H, W, 3] that is kept, one frame
        (image to video) or a frame and clips. guidance: None: that of the model. Raises UsageError for arguments that
        the model does not take.
        """
        if self.config.clips:
            if actions is not None or context_actions is not None:
                raise UsageError(f"model {self.config.name!r} takes no actions")
            told = _each(prompt, label)
            return self._clips(told, context, num_frames, _rngs(seed, len(told)), guidance, steps)
        if not (isinstance(seed, int) and isinstance(prompt, str | tuple | None) and isinstance(label, int | None)):
            raise UsageError("a world generates one video at a time; give one seed, and one prompt or label")
        if actions is not None:
            actions = self.config.spec.validate_actions(np.asarray(actions), "actions")
        count = len(actions) if num_frames is None and actions is not None else num_frames
        if not count or count < 1:
            raise UsageError("generate needs num_frames >= 1, or actions")
        if actions is not None and len(actions) < count:
            raise UsageError(f"{len(actions)} actions are too few for {count} frames; give one row per frame")
        world = self if guidance is None else self._guided(guidance)
        frames, seconds, last = [], [], time.perf_counter()
        asked = context, actions, seed, context_actions, steps
        for frame in islice(world.stream(*asked, prompt=prompt, label=label), count):
            frames.append(frame)
            seconds.append(time.perf_counter() - last)
            last = time.perf_counter()
        return Generated(np.stack(frames)[None], seconds)

    def without_memory(self) -> VideoModel:
        """The same weights without their memory. Raises UsageError for a model that has none."""
        self.config.check_memory()
        other = copy.copy(self)
        other.memory = None
        return other

    def _guided(self, guidance: GuideConfig) -> VideoModel:
        """The same model with another guidance."""
        other = copy.copy(self)
        other.config = self.config.replace(guidance=guidance)
        return other

    def _clips(
        self,
        told: Sequence[Told],
        context: Any,
        frames: int | None,
        rngs: Sequence[Rng],
        guidance: GuideConfig | None,
        steps: int | None,
    ) -> Generated:
        for one in told:
            self.config.check_told(one)
        known = None if context is None else self.known(torch.from_numpy(np.array(context)), len(told), frames)
        made, seconds = self.clip(told, rngs, known, frames, guidance, steps)
        return Generated(made.numpy(), seconds)

    @torch.inference_mode()
    def clip(
        self,
        told: Sequence[Told] | Any,
        rngs: Sequence[Rng],
        known: Mapping[int, Tensor] | None = None,
        frames: int | None = None,
        guidance: GuideConfig | None = None,
        steps: int | None = None,
    ) -> tuple[Tensor, list[float]]:
        """Generate clips of a fixed length: uint8 [B, T, H, W, 3], and the duration of each network call in seconds.

        told: one `Told` per video, or the conditioner's own record. known: labels [B, n, G] of the units that are given
        and stay unchanged.
        """
        setting = self.setting(steps, frames, guidance)
        (codes, seconds), map = make_clip(setting, told, rngs, known or {}), setting.system.frames
        groups = range(map.group(max(codes)) + 1)
        rows = [
            torch.cat([map.join(g, {u: c[row] for u, c in codes.items()}) for g in groups]) for row in range(len(rngs))
        ]
        return self.decode(torch.stack(rows))[0], seconds

    def units(
        self,
        told: Sequence[Told] | Any,
        rngs: Sequence[Rng],
        known: Mapping[int, Tensor] | None = None,
        frames: int | None = None,
        guidance: GuideConfig | None = None,
    ) -> tuple[dict[int, Tensor], list[float]]:
        """As `clip`, but returns the labels [B, n, G] by unit instead of frames."""
        return make_clip(self.setting(None, frames, guidance), told, rngs, known or {})

    @torch.inference_mode()
    def known(self, video: Tensor, batch: int, frames: int | None = None) -> dict[int, Tensor]:
        """Labels [B, n, G] by unit of the context uint8 [B, T, H, W, 3], the first pyramids of a clip of `frames`.

        Raises UsageError for other shapes.
        """
        want = (batch, self.config.height, self.config.width, 3)
        if video.dtype != torch.uint8 or video.ndim != 5 or (len(video), *video.shape[2:]) != want:
            raise UsageError(
                f"the context is {video.dtype} {list(video.shape)}; expected uint8 {want[0]} x T x {want[1]} x "
                f"{want[2]} x 3"
            )
        groups = range(self.config.pyramids_of(video.shape[1], frames))
        codes, map = self.encode(video), self.setting(frames=frames).system.frames
        known = (map.split(group, codes[:, list(map.frames(group))]) for group in groups)
        return {unit: labels for split in known for unit, labels in split.items()}

    def context_frames(self, context: Any) -> Tensor:
        """Frames, one frame, a path or None -> uint8 [T, H, W, 3] of the model's size. Raises VidarError otherwise."""
        return context_frames(self.config, self.start, context)

    def _checked(self, actions: Iterable[Any]) -> Iterator[np.ndarray]:
        for n, action in enumerate(actions):
            yield self.config.spec.validate_actions(np.asarray(action)[None], f"action {n}")[0]


def rows(seed: int, batch: int) -> list[Rng]:
    """One Rng per row of a job."""
    return [Rng(seed, video) for video in range(batch)]


def _rngs(seed: int | Many, batch: int) -> list[Rng]:
    """One Rng per row. Raises UsageError for another number of seeds."""
    if isinstance(seed, int):
        return rows(seed, batch)
    if len(seed) != batch:
        raise UsageError(f"{len(seed)} seeds for {batch} videos; give one seed, or one per video")
    return [Rng(one) for one in seed]


def _each(prompt: Any, label: int | Many | None) -> list[Told]:
    """One `Told` per prompt or label. Raises UsageError if their numbers differ."""
    prompts = [prompt] if isinstance(prompt, str | tuple | None) else list(prompt)
    labels = [label] if isinstance(label, int | None) else list(label)
    if min(len(prompts), len(labels)) > 1 and len(prompts) != len(labels):
        raise UsageError(f"{len(prompts)} prompts and {len(labels)} labels; give the same number of both")
    count = max(len(prompts), len(labels))
    pairs = zip(prompts * (count if len(prompts) == 1 else 1), labels * (count if len(labels) == 1 else 1))
    return [Told(*pair) for pair in pairs]
