"""Distribution matching distillation: move the distribution of the student's frames towards that of its teacher.

DMD (Yin et al., "One-step Diffusion with Distribution Matching Distillation", 2024), as in Self-Forcing (Huang et al.,
2025; model/dmd.py of its code). Frames x of the student are noised to level s, x_s = (1 - s) x + s n, and two networks
predict x0: the frozen teacher, mu_real, and a critic, mu_fake, which is trained only on the student's frames. With

    mu = (x_s + s^2 grad log p(x_s)) / (1 - s)      so      mu_fake - mu_real = s^2 / (1 - s) grad log (p_fake / p_real)

the student follows the negative gradient of the divergence KL(p_fake || p_real) of the noised frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.config import untold
from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.objectives.flow import shift
from vidar.rng import Rng
from vidar.train.methods.noised import Noised

Net = Callable[[Tensor, Tensor], Tensor]  # x, level [.., 1] -> x0, or v where stated


class MatchingConfig(Config):
    """critic_steps: number of critic steps per student step; the critic also learns in the step of the student.

    shift, edge: levels are uniform, one per clip, then shifted and clamped to [edge, 1 - edge]. guidance: w of
    classifier-free guidance of the teacher on the actions, mu + w (mu - mu without actions). The defaults are those of
    Self-Forcing except for w, which is 3 there, on text. Choice: 0, because worlds are played without guidance.
    """

    critic_steps: int = Field(default=5, ge=1)
    shift: float = Field(default=5.0, gt=0)
    edge: float = Field(default=0.02, gt=0, lt=0.5)
    guidance: float = Field(default=0.0, ge=0)

    def build(self) -> Matching:
        """The term."""
        return Matching(self)


class Matching:
    """The losses of student and critic on clips of the student.

    Choices: the critic has the squared error that the world was trained with (for a network that predicts x0, the error
    of v times s^2); it learns in the same step as the student, on the same frames, at another level and with other
    noise. SiD is not implemented.
    """

    def __init__(self, config: MatchingConfig) -> None:
        self.config = config

    def due(self, steps: Tensor) -> bool:
        """Whether the student learns in the step after `steps` steps: it does in every `critic_steps`-th step."""
        return (int(steps) + 1) % self.config.critic_steps == 0

    def terms(
        self, clips: Noised, made: Tensor, teacher: WorldNet, critic: WorldNet, rngs: Sequence[Rng], due: bool
    ) -> dict[str, Tensor]:
        """The losses `matching` (of the student, if it is due) and `critic` on the student's codes `made` [B, S, C].

        Gradients of the first reach only `made`, those of the second only the critic. clips: the context of both.
        """
        parts: dict[str, Tensor] = {}
        if due:
            level, noise = self.draw(clips, rngs, "matching_level", "matching_noise")
            real, fake = self.guided(clips, teacher), clips.data(critic)
            parts["matching"] = matching_loss(made, real, fake, level, noise, clips.weight)
        level, noise = self.draw(clips, rngs, "critic_level", "critic_noise")
        error = velocity_error(clips.velocity(critic), made, level, noise)
        error = (error * clips.clips.flow.prediction.scale(level)).square().mean(-1)
        parts["critic"] = (error * clips.weight).sum() / clips.weight.sum()
        return parts

    def draw(self, clips: Noised, rngs: Sequence[Rng], level_name: str, noise_name: str) -> tuple[Tensor, Tensor]:
        """Levels [B, S, 1], equal within a clip, and noise [B, S, C], drawn under these names."""
        u = torch.stack([rng.uniform(level_name) for rng in rngs])
        level = shift(u, self.config.shift).clamp(self.config.edge, 1 - self.config.edge)
        noise = torch.stack([rng.normal(noise_name, shape=clips.clean.shape[1:]) for rng in rngs])
        return clips.slots(level[:, None].expand(-1, clips.clips.layout.num_rows)), noise.to(clips.clean)

    def guided(self, clips: Noised, teacher: WorldNet) -> Net:
        """The teacher's x0 with classifier-free guidance on the actions."""
        told, weight = clips.data(teacher), self.config.guidance
        if not weight:
            return told
        hidden = untold(clips.actions)
        free = replace(clips, actions=hidden).data(teacher)
        return lambda x, level: (1 + weight) * told(x, level) - weight * free(x, level)


def matching_loss(made: Tensor, real: Net, fake: Net, level: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """DMD loss 0.5 mean (x - sg(x - g))^2 over the weighted slots; its gradient is that of x . sg(g) / count.

    made, noise: [B, S, C]; level: [B, S, 1]; weight: [B, S], 1 for slots with a loss, else 0. real, fake: (x, level) ->
    x0. It is computed as x - sg(x) + sg(g), which loses nothing to rounding; the code of Self-Forcing uses float64.
    """
    with torch.no_grad():
        x = (1 - level) * made + level * noise
        g = matching_gradient(made, real(x, level), fake(x, level), weight)
    error = (made - made.detach() + g).square().mean(-1)
    return 0.5 * (error * weight).sum() / weight.sum()


def matching_gradient(made: Tensor, real: Tensor, fake: Tensor, weight: Tensor) -> Tensor:
    """g = (mu_fake - mu_real) / mean |x - mu_real|, with the mean over the weighted slots of a clip.

    made, real, fake: [B, S, C]; weight: [B, S]. Values that are not finite become 0.
    """
    size = ((made - real).abs().mean(-1) * weight).sum(-1) / weight.sum(-1)
    return torch.nan_to_num((fake - real) / size[:, None, None], 0.0, 0.0, 0.0)


def velocity_error(velocity: Net, made: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """v(x_s, s) - (n - x) on detached frames, [.., C]; velocity: (x, level) -> v."""
    made = made.detach()
    return velocity((1 - level) * made + level * noise, level) - (noise - made)
