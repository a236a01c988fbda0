"""Reward and end of a step, predicted from the latents around it (after DIAMOND's reward and end model, 2024).

Choice: DIAMOND reads a history of images with an LSTM and classifies rewards into {-1, 0, 1}. This head reads the
previous frame, this frame and the action between them, and predicts the mean reward. It cannot know what a game hides
for longer (a score that is paid out later, a hidden clock).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.actions import ActionSpec
from vidar.config import Config

START_LOGIT = -4.0  # Choice: ends are rare, 2 % before training; if ends are not trained, it stays so


class OutcomeNetConfig(Config):
    """spec: of the actions. rows, columns: sites of a frame. channels: values per site.

    width: channels between the convolutions. kept: values per site that reach the read-out. hidden: width of the
    read-out.
    """

    spec: ActionSpec
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    channels: int = Field(ge=1)
    width: int = Field(default=64, ge=1)
    kept: int = Field(default=8, ge=1)
    hidden: int = Field(default=128, ge=1)

    def build(self) -> OutcomeNet:
        """The untrained head: reward 0, and an end as likely as START_LOGIT says."""
        return OutcomeNet(self)


class OutcomeNet(nn.Module):
    """Two 3 x 3 convolutions over the sites, then two layers on all of them and the action.

    scale: the unit of the reward, a constant. Choice: convolutions, because the same things meeting are the same
    event at any place; then separate weights for every site, because a goal has a fixed place.
    """

    scale: Tensor

    def __init__(self, config: OutcomeNetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("scale", torch.ones(()))
        self.sites = nn.Sequential(
            nn.Conv2d(2 * config.channels, config.width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.width, config.kept, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        pressed = sum(action.size if action.kind in ("choice", "camera") else 1 for action in config.spec.actions)
        self.hidden = nn.Sequential(
            nn.Linear(config.rows * config.columns * config.kept + pressed, config.hidden), nn.SiLU()
        )
        self.out = nn.Linear(config.hidden, 2)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, START_LOGIT]))

    def forward(self, codes: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, 2, n, C] of the previous and this frame, actions [B, A] -> reward [B], logit of the end [B].

        The reward is in the unit of the game; both outputs are float32 or wider.
        """
        before, now = codes.mT.unflatten(-1, (self.config.rows, self.config.columns)).unbind(1)  # [B, C, rows, columns]
        seen = self.sites(torch.cat([now, now - before], 1))  # [B, kept n]
        pressed = features(actions, self.config.spec).to(seen)
        out = self.out(self.hidden(torch.cat([seen, pressed], -1)))
        reward, logit = out.to(torch.promote_types(out.dtype, torch.float32)).unbind(-1)
        return reward * self.scale, logit


def features(actions: Tensor, spec: ActionSpec) -> Tensor:
    """Action table [B, A] -> features [B, F]: binary as it is, continuous in [-1, 1], choice and camera one-hot."""
    columns: list[Tensor] = [actions.new_zeros(len(actions), 0)]
    for value, action in zip(actions.unbind(1), spec.actions, strict=True):
        if action.kind in ("choice", "camera"):
            columns.append(F.one_hot(value.round().long(), action.size).to(actions))
        elif action.kind == "continuous":
            columns.append((2 * (value - action.low) / (action.high - action.low) - 1)[:, None])
        else:
            columns.append(value[:, None])
    return torch.cat(columns, 1)
