"""Records and protocols that the parts exchange. Nothing here computes.

Letters, used everywhere: B batch, T frames, H W height and width, N sites, S slots of one call, R sites kept by a
ring, U units, L layers, A axes, D width, K heads, E head width, V vocabulary, C channels, M modulation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

PAD = -1  # the cell of padding, of an empty ring slot, and of the frame before the first
QUERY = 0  # role of a slot in flight: thrown away after the call
MEMORY = 1  # role of a committed slot: kept

CodeKind = Literal["latent", "index", "bits"]
Tree = Mapping[str, Any]  # a plain tree of tensors, numbers and booleans


class VidarError(Exception):
    """A failure a user can mend: one line naming file, key or sample, and the remedy. Exit code 1."""


class UsageError(VidarError):
    """Wrong usage: the command or configuration itself is at fault. Exit code 2."""


@dataclass(frozen=True)
class Codes:
    """What a tokenizer makes of a video.

    data: latent float [B, C, T, H, W] | index long [B, T, H, W] | bits bool [B, C, T, H, W].
    """

    kind: CodeKind
    data: Tensor


@dataclass(frozen=True)
class Slots:
    """Who sits where in one call, or in a ring. The leading B is 1 where all rows of the batch agree.

    site, cell, unit: long [B, S]; role: long [B, S] (QUERY or MEMORY); coord: float64 [B, S, A].
    A padding slot has cell PAD, and nothing else marks it.
    """

    site: Tensor
    cell: Tensor
    unit: Tensor
    role: Tensor
    coord: Tensor


@dataclass(frozen=True)
class Cond:
    """The four conditioning ports; every port may be empty.

    memory      cross-attention keys and values' input [B, J, D], with memory_mask bool [B, J] (True = real)
    modulation  added to the embedding that drives adaLN, one row per (cell, role) of the layout: [B, M, D]
    add         added to the embedded slots [B, S, D]
    The fourth port, prefix, needs no field: a prefix is a given unit.
    """

    modulation: Tensor | None = None
    add: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None


@dataclass(frozen=True)
class Past:
    """Codes and outputs of the units that `needs` names, and of no others. unit -> [n, C] and unit -> [n, O]."""

    codes: Mapping[int, Tensor]
    outs: Mapping[int, Tensor]


@dataclass(frozen=True)
class Target:
    """What a training call should answer: value [B, S, O] (or labels [B, S]) and weight [B, S] (0 = not asked)."""

    value: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Loss:
    """total: scalar to differentiate. parts: named scalars to log, detached."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True)
class Segment:
    """A batch of clips as the loader hands it out.

    video    uint8 [B, T, H, W, 3]
    actions  float32 [B, T, A]; actions[:, t] acts between frame t-1 and frame t
    unknown  bool [B, T]; True where the action is not known (always at t = 0)
    number   running sample numbers: long [B], never the data-set id
    names    for messages: where each clip comes from
    """

    video: Tensor
    actions: Tensor
    unknown: Tensor
    number: Tensor
    names: Sequence[str]


class Tokenizer(Protocol):
    """Video to codes and back, in one pass or as a stream.

    `state` None starts a stream; what comes back goes into the next call. A state is a plain tree: it can be copied
    (fork), stored (serialise) and holds an explicit `first` flag.
    """

    kind: CodeKind

    def encode(self, video: Tensor, state: Tree | None = None) -> tuple[Codes, Tree]:
        """float [B, 3, T, H, W] in [-1, 1] -> Codes."""
        ...

    def decode(self, codes: Codes, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Codes -> float [B, 3, T, H, W] in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Quantised:
    """code [..., C], whose gradient goes straight through to what was quantised; labels long [..., G]; loss: scalar."""

    code: Tensor
    labels: Tensor
    loss: Loss


class Quantiser(Protocol):
    """Vectors to labels and back. A label has G parts, part g one of `classes[g]` values from 0.

    One codebook has G = 1; binary codes have G = C and classes of 2; others have levels of their own per channel.
    """

    channels: int  # C
    classes: tuple[int, ...]  # G of them

    def quantise(self, x: Tensor) -> Quantised:
        """float [..., C] -> code, labels and the auxiliary loss of this call."""
        ...

    def code(self, labels: Tensor) -> Tensor:
        """Labels [..., G] -> code [..., C]."""
        ...


class Model(Protocol):
    """`model(inputs, layout, cond, state) -> out`. Reads the rings of the state, appends the MEMORY rows.

    inputs [B, S, I] raw slot inputs of the objective; out [B, S, O].
    """

    def __call__(self, inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        """One forward; `layout` is a `core.layout.Layout`, `state` a `State` or None (training)."""
        ...


class State(Protocol):
    """What a model sees of a state: the rings, and what mixers with a state of fixed size carry."""

    def read(self, relation: str, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values [B, R, K, E] of a relation's ring at a layer; None where nothing is kept."""
        ...

    def write(self, relation: str, layer: int, k: Tensor, v: Tensor) -> None:
        """Hand over the fresh keys and values [B, S, K, E]; only slots with role MEMORY are kept."""
        ...

    def carry(self, name: str, layer: int) -> Tensor | None:
        """What a mixer left at its last call, [B, ..]; None before the first, zeros for a row that is new."""
        ...

    def carried(self) -> Mapping[tuple[str, int], Tensor]:
        """All that is carried, by name and layer."""
        ...

    def put(self, name: str, layer: int, value: Tensor) -> None:
        """Leave a value [B, ..] for the next call: what is committed counts, not what is in flight."""
        ...


Pass = tuple[int, int | None]  # (role, refinement step or None)


class Conditioner(Protocol):
    """Turns raw conditions (actions, labels, text) into ports for one layout."""

    def __call__(self, conditions: Any, layout: Any) -> Cond:
        """conditions: the conditioner's own record, [B, U, ...] by unit number."""
        ...
