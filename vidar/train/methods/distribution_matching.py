"""Distribution matching: a student is moved to where its teacher finds its frames more likely than they are.

DMD (Yin et al., "One-step Diffusion with Distribution Matching Distillation", 2024), as self-forcing has it
(causal-diffusion 15.1). Frames x of the student are noised to level s, x_s = (1 - s) x + s n, and two networks say
what they were: the frozen teacher, mu_real, and a critic, mu_fake, that is trained on the student's frames alone. With

    mu = (x_s + s^2 grad log p(x_s)) / (1 - s)      so      mu_fake - mu_real = s^2 / (1 - s) grad log (p_fake / p_real)

the student goes down the gradient of the divergence KL(p_fake || p_real) of the noised frames.
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

Net = Callable[[Tensor, Tensor], Tensor]  # x, level [.., 1] -> x0, or v where that is said


class MatchingConfig(Config):
    """critic_steps: of the critic for one of the student, in which it learns too. shift, edge: levels are uniform u,
    one for each clip, shifted and kept within [edge, 1 - edge]. guidance: w of the teacher by its actions,
    mu + w (mu - mu without actions).

    Defaults are those of Self-Forcing, but for w: 3 there, of a text. Choice: 0, as a world is played without.
    """

    critic_steps: int = Field(default=5, ge=1)
    shift: float = Field(default=5.0, gt=0)
    edge: float = Field(default=0.02, gt=0, lt=0.5)
    guidance: float = Field(default=0.0, ge=0)

    def build(self) -> Matching:
        """The term."""
        return Matching(self)


class Matching:
    """The terms of student and critic on clips of the student.

    Choices: the critic learns as the world did, by its squared error, which for one that says x0 is that of v times
    s^2; in the same step as the student on the same frames, at another level and under other noise. SiD is left out.
    """

    def __init__(self, config: MatchingConfig) -> None:
        self.config = config

    def due(self, steps: Tensor) -> bool:
        """Whether the student learns in the step after so many: in every `critic_steps`-th, the critic first."""
        return (int(steps) + 1) % self.config.critic_steps == 0

    def terms(
        self, clips: Noised, made: Tensor, teacher: WorldNet, critic: WorldNet, rngs: Sequence[Rng], due: bool
    ) -> dict[str, Tensor]:
        """`matching` (of the student, where it is due) and `critic` on codes made [B, S, C].

        Gradients of the first reach `made` alone, those of the second the critic alone. clips: what both see besides.
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
        """The teacher's x0 under the actions, away from that without them."""
        told, weight = clips.data(teacher), self.config.guidance
        if not weight:
            return told
        hidden = untold(clips.actions)
        free = replace(clips, actions=hidden).data(teacher)
        return lambda x, level: (1 + weight) * told(x, level) - weight * free(x, level)


def matching_loss(made: Tensor, real: Net, fake: Net, level: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """Causal-diffusion 15.1: 0.5 mean (x - sg(x - g))^2 over what counts, whose gradient is that of x . sg(g) / count.

    made, noise [B, S, C], level [B, S, 1], weight [B, S]: 1 where it counts, else 0. real, fake: (x, level) -> x0.
    x - sg(x) + sg(g) is the same with nothing lost to rounding, where the reference takes float64.
    """
    with torch.no_grad():
        x = (1 - level) * made + level * noise
        g = matching_gradient(made, real(x, level), fake(x, level), weight)
    error = (made - made.detach() + g).square().mean(-1)
    return 0.5 * (error * weight).sum() / weight.sum()


def matching_gradient(made: Tensor, real: Tensor, fake: Tensor, weight: Tensor) -> Tensor:
    """Causal-diffusion 15.1: g = (mu_fake - mu_real) / mean |x - mu_real|, the mean over what counts of a clip.

    All [B, S, C], weight [B, S]. What is not finite is 0.
    """
    size = ((made - real).abs().mean(-1) * weight).sum(-1) / weight.sum(-1)
    return torch.nan_to_num((fake - real) / size[:, None, None], 0.0, 0.0, 0.0)


def velocity_error(velocity: Net, made: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """v(x_s, s) - (n - x) on frames whose makers it does not reach, [.., C]; velocity: (x, level) -> v."""
    made = made.detach()
    return velocity((1 - level) * made + level * noise, level) - (noise - made)
