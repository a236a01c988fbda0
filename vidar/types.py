"""Records and protocols that the modules exchange. Nothing here computes.

Letters in shapes: B batch, T frames, H W height and width, N sites, S slots of one call, R sites kept by a ring,
U units, L layers, A axes, D width, K heads, E head width, V vocabulary, C channels, M modulation rows.
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
    """A failure that the user can fix: one line naming the file, key or sample, and the remedy. Exit code 1."""


class UsageError(VidarError):
    """Wrong usage: the command or configuration is invalid. Exit code 2."""


@dataclass(frozen=True)
class Codes:
    """The output of a tokenizer for a video.

    data: latent float [B, C, T, H, W] | index long [B, T, H, W] | bits bool [B, C, T, H, W].
    """

    kind: CodeKind
    data: Tensor


@dataclass(frozen=True)
class Slots:
    """The site that each slot of one call, or of a ring, shows. The leading B is 1 if all rows of the batch agree.

    site, cell, unit: long [B, S]; role: long [B, S] (QUERY or MEMORY); coord: float64 [B, S, A].
    Padding has cell NOBODY; nothing else marks it.
    """

    site: Tensor
    cell: Tensor
    unit: Tensor
    role: Tensor
    coord: Tensor


@dataclass(frozen=True)
class Cond:
    """The four conditioning ports; every port may be empty.

    memory      input of the cross-attention keys and values [B, J, D], with memory_mask bool [B, J] (True = real)
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
    """The units that `needs` names, and no others. codes: unit -> [n, C]. outs: network outputs, unit -> [n, O].

    shown: what a memory shows of the unit itself, [n, W], or None.
    """

    codes: Mapping[int, Tensor]
    outs: Mapping[int, Tensor]
    shown: Tensor | None = None


@dataclass(frozen=True)
class Target:
    """The training target: value [B, S, O] (or labels [B, S]), and its loss weight [B, S] (0 = no loss)."""

    value: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Loss:
    """A loss. total: the scalar to differentiate. parts: detached scalars to log, by name."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True)
class Segment:
    """A batch of clips from the loader.

    video    uint8 [B, T, H, W, 3]
    actions  float32 [B, T, A]; actions[:, t] acts between frame t-1 and frame t
    unknown  bool [B, T]; True where the action is not known (always at t = 0)
    number   long [B], running sample numbers (not data-set ids)
    names    the source of each clip, for messages
    """

    video: Tensor
    actions: Tensor
    unknown: Tensor
    number: Tensor
    names: Sequence[str]


class Tokenizer(Protocol):
    """Encodes video to codes and decodes it, in one pass or as a stream.

    `state` None starts a stream; pass the returned state to the next call. A state is a plain tree, which can be copied
    (fork) and stored (serialise), and holds an explicit `first` flag.
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
    """code [..., C], with a straight-through gradient to the quantiser's input; labels long [..., G]; loss: scalar."""

    code: Tensor
    labels: Tensor
    loss: Loss


class Quantiser(Protocol):
    """Maps vectors to labels and back. A label has G parts; part g has one of `classes[g]` values from 0.

    One codebook has G = 1; binary codes have G = C with 2 classes each; others have several levels per channel.
    """

    channels: int  # C
    classes: tuple[int, ...]  # one number per part of a label, G in all

    def quantise(self, x: Tensor) -> Quantised:
        """float [..., C] -> code, labels and auxiliary loss."""
        ...

    def code(self, labels: Tensor) -> Tensor:
        """Labels [..., G] -> code [..., C]."""
        ...


class Model(Protocol):
    """`model(inputs, layout, cond, state) -> out`. Reads the rings of the state and appends the MEMORY slots.

    inputs: [B, S, I], the raw slot inputs of the objective. out: [B, S, O].
    """

    def __call__(self, inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        """One forward pass; `layout` is a `core.layout.Layout`, `state` a `State` or None (training)."""
        ...


class State(Protocol):
    """The part of a state that a model uses: the rings, and the carried values of mixers with a state of fixed size."""

    def read(self, relation: str, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values [B, R, K, E] of a relation's ring at a layer; None if the ring is empty."""
        ...

    def write(self, relation: str, layer: int, k: Tensor, v: Tensor) -> None:
        """Store the new keys and values [B, S, K, E]; only slots with role MEMORY are kept."""
        ...

    def carry(self, name: str, layer: int) -> Tensor | None:
        """The value [B, ..] that a mixer stored in its last call; None before the first call, zeros for a new row."""
        ...

    def carried(self) -> Mapping[tuple[str, int], Tensor]:
        """All carried values, by name and layer."""
        ...

    def put(self, name: str, layer: int, value: Tensor) -> None:
        """Store a value [B, ..] for the next call. It must depend on committed slots only, not on slots in flight."""
        ...


Pass = tuple[int, int | None]  # (role, refinement step or None)


class Conditioner(Protocol):
    """Maps raw conditions (actions, labels, text) to the conditioning ports for one layout."""

    def __call__(self, conditions: Any, layout: Any) -> Cond:
        """conditions: the conditioner's own record, [B, U, ...] by unit number."""
        ...
