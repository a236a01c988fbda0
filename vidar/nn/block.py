"""Residual sublayers with adaLN-zero (DiT), and the SwiGLU MLP.

x is kept as [B, G, n, D] and a modulation as [B, G, 1, D], which is broadcast over the n slots of a row: expanding
the modulation to all slots would cost a third of a training step on a CPU. If rows differ in length, G = S and n = 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.config import Config
from vidar.nn.asked import Index, taken
from vidar.nn.attention import Attention
from vidar.nn.embed import linear
from vidar.nn.norm import modulate
from vidar.nn.rope import Tables
from vidar.types import State


@dataclass(frozen=True)
class Call:
    """What the sublayers of one forward share: everything that depends on the layout, decided beforehand.

    start        long [M] on the device: the first slot of each modulation row
    length       slots per modulation row if all are equal, else None
    row          long [S] on the device if modulation rows differ in length, else None
    tables       rotary tables [B or 1, S, E], or None
    attention    by relation name
    state        rings, or None (training)
    memory       [B, J, D] with memory_mask bool [B, J]: the cross-attention port
    """

    start: Tensor
    length: int | None
    row: Tensor | None
    tables: Tables | None
    attention: dict[str, Attention]
    state: State | None
    memory: Tensor | None
    memory_mask: Tensor | None


@dataclass(frozen=True)
class Asked:
    """The slots with a loss: their rows and slots among those of a call, and a Call of their own."""

    rows: Index
    slots: Index
    call: Call

    def of_slots(self, x: Tensor) -> Tensor:
        """Select slots: [B, G, n, D] -> [B, G', n, D]; also for gates."""
        return taken(x, self.slots if self.call.length is None else self.rows)

    def of_rows(self, rows: Tensor) -> Tensor:
        """Select modulation rows: [B or 1, M, D] -> [B or 1, M', D]."""
        return taken(rows, self.rows)


@runtime_checkable
class Answers(Protocol):
    """A mixer that can compute the slots with a loss only."""

    def answer(self, x: Tensor, rows: Tensor, call: Call, asked: Asked) -> Tensor:
        """`forward` for the asked slots only: [B, G, n, D] -> [B, G', n, D]."""
        ...


class Modulation(nn.Module):
    """adaLN-zero: rows [B or 1, M, D] -> `parts` tensors [B or 1, G, 1, channels (D)]. std 0: zero, gates closed.

    After `share` it reads its columns of rows that were mapped before, [B or 1, M, more], and adds its own offset.
    """

    def __init__(self, width: int, parts: int, std: float, channels: int | None = None) -> None:
        super().__init__()
        self.parts, out = parts, parts * (channels or width)
        self.columns: slice | None = None
        self.map = _map(width, out, std)

    def forward(self, rows: Tensor, row: Tensor | None) -> tuple[Tensor, ...]:
        """Returns the `parts` tensors. row: the modulation row of each slot, or None if rows are equally long."""
        made = self.map(F.silu(rows)) if self.columns is None else rows[..., self.columns] + self.offset
        made = made if row is None else made[:, row]
        return made.unsqueeze(2).chunk(self.parts, dim=-1)

    def share(self, start: int) -> int:
        """Replace the map by the columns from `start` on of a shared map; returns the end of these columns."""
        self.columns = slice(start, start + self.map.out_features)
        self.offset = nn.Parameter(torch.zeros(self.map.out_features))
        del self.map
        return self.columns.stop


class ModulationConfig(Config):
    """Base class of the configs of modulation: how rows become the shifts, scales and gates of the sublayers."""

    @abstractmethod
    def build(self, blocks: Iterable[nn.Module], width: int, std: float) -> nn.Module:
        """The module that maps rows [B, M, D] before the blocks."""


class OwnModulationConfig(ModulationConfig):
    """Every sublayer has its own map of the rows (DiT, VAR)."""

    def build(self, blocks: Iterable[nn.Module], width: int, std: float) -> nn.Module:
        """The module that maps rows before the blocks: the identity."""
        return nn.Identity()


class SharedModulationConfig(ModulationConfig):
    """One map for all blocks, and an offset per sublayer (PixArt's adaLN-single; Infinity, VAR d36)."""

    def build(self, blocks: Iterable[nn.Module], width: int, std: float) -> nn.Module:
        """The shared map; the sublayers of equal blocks give up their own maps."""
        end = 0
        for block in blocks:
            end = 0
            for module in block.modules():
                if isinstance(module, Modulation):
                    end = module.share(end)
        return SharedModulation(width, end, std)


class SharedModulation(nn.Module):
    """Rows [B or 1, M, D] -> [B or 1, M, out]. std 0: zero."""

    def __init__(self, width: int, out: int, std: float) -> None:
        super().__init__()
        self.map = _map(width, out, std)

    def forward(self, rows: Tensor) -> Tensor:
        """Map the rows once for all blocks."""
        return self.map(F.silu(rows))


class MLP(nn.Module):
    """x + gate * SwiGLU(modulate(x)) (Shazeer 2020 eq. 6), hidden width 2/3 of ratio * D rounded up to 32."""

    def __init__(self, width: int, ratio: float, gate_std: float) -> None:
        super().__init__()
        hidden = -(-int(ratio * width * 2 / 3) // 32) * 32
        self.modulation = Modulation(width, 3, gate_std)
        self.enter = linear(width, 2 * hidden)
        self.leave = linear(hidden, width)

    def forward(self, x: Tensor, rows: Tensor, row: Tensor | None) -> Tensor:
        """[B, G, n, D] -> [B, G, n, D]."""
        shift, scale, gate = self.modulation(rows, row)
        value, opened = self.enter(modulate(x, shift, scale)).chunk(2, dim=-1)
        return x + gate * self.leave(F.silu(opened) * value)


class Block(nn.Module):
    """Mixers one after another, then the MLP; each adds its output to x through its own gate."""

    def __init__(self, mixers: list[nn.Module], mlp: MLP) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(mixers)
        self.mlp = mlp

    def forward(self, x: Tensor, rows: Tensor, call: Call) -> Tensor:
        """x [B, G, n, D], rows [B or 1, M, D] -> [B, G, n, D]."""
        for mixer in self.mixers:
            x = mixer(x, rows, call)
        return self.mlp(x, rows, call.row)

    def answer(self, x: Tensor, rows: Tensor, call: Call, asked: Asked) -> Tensor:
        """`forward` for the asked slots only, [B, G', n, D]; the last mixer reads all others."""
        *before, last = self.mixers
        for mixer in before:
            x = mixer(x, rows, call)
        x = last.answer(x, rows, call, asked) if isinstance(last, Answers) else asked.of_slots(last(x, rows, call))
        return self.mlp(x, asked.of_rows(rows), asked.call.row)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the parts around attention; attention and the cache write stay eager (a graph slows them down)."""
        for part in (*self.mixers, self.mlp):
            part.compile(*args, **kwargs)


def _map(width: int, out: int, std: float) -> nn.Linear:
    """A linear map; with std 0 it is zero."""
    layer = linear(width, out, bias=True, std=std) if std > 0 else nn.Linear(width, out)
    if std == 0:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer
