"""Counter-based randomness: every draw is a function of (seed, video, name, unit, step).

No draw depends on another one, so results do not depend on batch size, chunking, device count, speculation or resume
point. Philox 4x64-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011) is the bit source; its raw
words are mapped to numbers here, so the values do not change with the release of numpy.

The rule of training: in one step a key is drawn once, as two draws of one key are one number. So every draw has a name
of its own in `DRAWS`; unit and step count within that name. Code that wants the same numbers again says so (`kept`);
code that runs twice in a step, each time with other numbers, says under which names (`renamed`). Play draws a key as
often as it is asked for: what later units see of a unit is the same whoever sees it.
"""

from __future__ import annotations

import hashlib
import math
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.config import unknown_key
from vidar.types import UsageError

# Every draw: its name and what is drawn. A name is a part of the key: whoever changes it changes the numbers.
DRAWS = {
    # play and training, data and recorders: videos, recordings and data sets rest on these
    "start": "the noise in which a unit begins",
    "renoise": "fresh noise after a call of a unit",
    "token": "the labels of a unit",
    "context": "the noise on what later units see of a unit",
    "init": "how an episode begins: of a made-up world, or which start of an environment",
    "policy": "what a recorder presses",
    "shuffle": "the order of the samples of an epoch",
    # before training
    "weights": "the weights of a fresh network, as the seed of torch",
    "codebook": "the vectors of a fresh codebook",
    # any step
    "torch": "what torch draws by itself in a step (dropout), as its seed",
    # tokenizers and decoders
    "latent_noise": "the noise on the latents that a decoder is given",
    "dropped_scales": "which scales of a pyramid are left out",
    "revived_codes": "which vectors of a step take the place of dead codes",
    "dreamed_share": "whether a sample is a dreamed latent or the encoder's own",
    # worlds and pictures
    "hidden_actions": "whether the actions of a clip are hidden from the model",
    "hidden_label": "whether the class or text of a picture is hidden from the model",
    "hidden_frames": "which earlier frames a frame does not see",
    "flip": "which label parts are changed, and how",
    "level": "the level of a unit",
    "context_share": "whether a unit stands at the level of context",
    "context_level": "the level of what later units see of a unit",
    "prefix_length": "the frames of a clean prefix",
    "prefix_offset": "where the positions of a clip begin",
    "own_context": "whether a batch sees the model's own answers",
    "own_generations": "the number of their generations",
    "own_start": "the noise that they answer",
    "own_factor": "how far what is seen is moved towards them",
    # students
    "consistency_share": "whether a clip learns self-consistency or flow matching",
    "interval": "the step, and where on the path, that a shortcut is learned for",
    "student_level": "the levels that a student of discrete consistency is asked at",
    "student_time": "the times that a student of continuous consistency is asked at",
    "endpoint_level": "whether a student of endpoints is asked from noise, and else from which level",
    "judged_level": "the levels at which an adversary judges",
    "judged_noise": "the noise under which it does",
    "matching_level": "the level at which two scores are compared",
    "matching_noise": "the noise under which they are",
    "critic_level": "the level at which a critic learns",
    "critic_noise": "the noise under which it does",
    "exit": "the call with which the units of a rollout leave",
    # small models that read worlds
    "wear": "how much worse a clip becomes",
    "wear_blur": "how blur varies over its frames",
    "wear_tint": "its colour",
    "wear_grain": "the noise on its pixels, as the seed of torch",
    "outcome_level": "the deviation of the noise on the latents of a head",
    "outcome_noise": "that noise",
}

BELOW_1 = 1 - 2.0**-53  # the largest float64 below 1


class _Source(threading.local):
    """One Philox a thread, set to the key of each draw: a new one asks the system for entropy, which costs more."""

    def __init__(self) -> None:
        self._philox: Any = np.random.Philox(key=0)
        self._key: dict[str, Any] = {"counter": (0, 0, 0, 0), "key": (0, 0)}
        rest = {"buffer": (0, 0, 0, 0), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
        self._state: dict[str, Any] = {"bit_generator": "Philox", "state": self._key, **rest}

    def words(self, key: bytes, count: int) -> np.ndarray:
        """The first `count` words of a key of 16 bytes, uint64 [count]."""
        self._key["key"] = _TWO_WORDS.unpack(key)
        self._philox.state = self._state
        return self._philox.random_raw(count)


_TWO_WORDS = struct.Struct("<QQ")
_SOURCE = _Source()


def _between(words: np.ndarray) -> np.ndarray:
    """Words uint64 [..] -> float64 in (0, 1)."""
    u = (words >> np.uint64(11)).view(np.int64).astype(np.float64)  # below 2^53, and far quicker than unsigned
    u += 0.5
    u *= 2.0**-53
    return np.minimum(u, BELOW_1, out=u)  # the last word is rounded up to 1


@dataclass(frozen=True)
class Rng:
    """seed: of the job. video: the row's index in the job; in training the running sample number.

    attempt: how often this part was drawn before and taken back; each attempt draws anew.
    """

    seed: int
    video: int = 0
    attempt: int = 0

    def raw(self, name: str, unit: int, step: int, count: int) -> np.ndarray:
        """`count` raw 64-bit words, uint64 [count]. Raises UsageError for a name that is not in `DRAWS`."""
        if name not in DRAWS:
            raise UsageError(unknown_key(name, DRAWS, "the table of random draws"))
        again = f"/{self.attempt}" if self.attempt else ""
        text = f"{self.seed}/{self.video}/{name}/{unit}/{step}{again}".encode()
        return _SOURCE.words(hashlib.blake2b(text, digest_size=16).digest(), count)

    def kept(self, *names: str) -> Rng:
        """These draws again: under the given names a key is drawn once and gives the same numbers ever after."""
        return Kept(self.seed, self.video, self.attempt, self, frozenset(names))

    def renamed(self, **names: str) -> Rng:
        """These draws for another use of the same code: what it asks for by a key of `names` is drawn by its value."""
        return Renamed(self.seed, self.video, self.attempt, self, tuple(names.items()))

    def uniform(self, name: str, unit: int = 0, step: int = 0, shape: Sequence[int] = ()) -> Tensor:
        """Uniform in (0, 1), float64 [shape]; never 0 or 1."""
        return torch.from_numpy(_between(self.raw(name, unit, step, math.prod(shape))).reshape(tuple(shape)))

    def normal(self, name: str, unit: int = 0, step: int = 0, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal (Box-Muller), float64 [shape]."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u = _between(self.raw(name, unit, step, 2 * half))
        radius, angle = np.sqrt(-2.0 * np.log(u[:half])), 2.0 * math.pi * u[half:]
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return torch.from_numpy(both[:count].reshape(tuple(shape)))

    def gumbel(self, name: str, unit: int = 0, step: int = 0, shape: Sequence[int] = ()) -> Tensor:
        """Standard Gumbel, float64 [shape]."""
        return -torch.log(-torch.log(self.uniform(name, unit, step, shape)))

    def permutation(self, name: str, count: int, unit: int = 0, step: int = 0) -> Tensor:
        """A random order of range(count), long [count]."""
        return torch.argsort(self.uniform(name, unit, step, (count,)), stable=True)


@dataclass(frozen=True)
class Kept(Rng):
    """See `Rng.kept`. A key that is asked for more numbers than before is drawn anew."""

    inner: Rng = Rng(0)
    names: frozenset[str] = frozenset()
    words: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def raw(self, name: str, unit: int, step: int, count: int) -> np.ndarray:
        """See `Rng.raw`."""
        if name not in self.names:
            return self.inner.raw(name, unit, step, count)
        key = (name, unit, step)
        if len(self.words.get(key, ())) < count:
            self.words[key] = self.inner.raw(name, unit, step, count)
        return self.words[key][:count]


@dataclass(frozen=True)
class Renamed(Rng):
    """See `Rng.renamed`."""

    inner: Rng = Rng(0)
    names: tuple[tuple[str, str], ...] = ()

    def raw(self, name: str, unit: int, step: int, count: int) -> np.ndarray:
        """See `Rng.raw`."""
        return self.inner.raw(dict(self.names).get(name, name), unit, step, count)


Key = tuple[Rng, int]  # whose draw it is, and of which unit


def every(rngs: Sequence[Rng], units: Sequence[int]) -> list[Key]:
    """Every unit of every row: R U keys."""
    return [(rng, unit) for rng in rngs for unit in units]


def uniforms(keys: Sequence[Key], name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
    """`Rng.uniform` of many rows and units in one go, to the bit: float64 [K, *shape]."""
    return torch.from_numpy(_between(_words(keys, name, step, math.prod(shape)))).reshape(len(keys), *shape)


def normals(
    keys: Sequence[Key], name: str, shape: Sequence[int] = (), step: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """`Rng.normal` of many rows and units in one go, to the bit, rounded to `dtype`: [K, *shape]."""
    count = math.prod(shape)
    half = (count + 1) // 2
    made, many = torch.empty(len(keys), 2, half, dtype=dtype), max(1, _PAIRS // max(half, 1))
    pairs = _pairs32 if dtype == torch.float32 else _pairs
    for first in range(0, len(keys), many):
        words = _words(keys[first : first + many], name, step, 2 * half)
        pairs(_between(words).reshape(-1, 2, half), made[first : first + many])
    return made.flatten(1)[:, :count].reshape(len(keys), *shape)


class Ahead:
    """`Rng.normal` of one name for unit after unit, drawn some units ahead in one go, to the bit.

    What is drawn is kept by Rng, for the latest ROWS of them.
    """

    ROWS, UNITS = 1024, 8
    MOST = 1 << 15  # numbers of one go: where a unit has many, nothing is gained by several

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: dict[tuple[Rng, tuple[int, ...]], tuple[int, Tensor]] = {}

    def normal(self, rng: Rng, unit: int, shape: Sequence[int]) -> Tensor:
        """Standard normal, float64 [shape], not to be changed."""
        key = rng, tuple(shape)
        first, drawn = self._kept.get(key, (unit, _NOTHING))
        if not first <= unit < first + len(drawn):
            units = max(1, min(self.UNITS, self.MOST // max(1, math.prod(shape)))) if type(rng) is Rng else 1
            with torch.inference_mode(False):
                first, drawn = unit, normals(every([rng], range(unit, unit + units)), self.name, shape)
            self._kept.pop(key, None)
            if len(self._kept) >= self.ROWS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = first, drawn
        return drawn[unit - first]


_NOTHING = torch.zeros(0)
_PAIRS = 1 << 15  # of normal numbers at a time: what is made of them stays in the cache of a core
_UNSURE = 64  # last digits in which two ways to a float64 may differ


def _words(keys: Sequence[Key], name: str, step: int, count: int) -> np.ndarray:
    """The words of draws side by side, uint64 [K, count]."""
    drawn = [rng.raw(name, unit, step, count) for rng, unit in keys]
    return np.concatenate([np.empty(0, np.uint64), *drawn]).reshape(len(keys), count)


def _pairs(u: np.ndarray, out: Tensor) -> None:
    """Box-Muller: uniform float64 [K, 2, half] -> out [K, 2, half]."""
    first, second = (np.ascontiguousarray(u[:, part]) for part in (0, 1))
    radius, angle = np.sqrt(-2.0 * np.log(first)), 2.0 * math.pi * second
    out.copy_(torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)))


def _pairs32(u: np.ndarray, out: Tensor) -> None:
    """`_pairs` for out of float32, in half the time.

    torch's functions of float64 are faster than those of numpy, and both are right but for a few of the last digits,
    of which float32 has no use: it keeps 24 of 53. A number so near to the middle between two of float32 that these
    digits decide comes once in four million, and then all are made the plain way.
    """
    made, (first, second) = torch.empty(u.shape, dtype=torch.float64), torch.from_numpy(u).unbind(1)
    radius, angle = torch.log(first).mul_(-2.0), second * (2.0 * math.pi)
    np.sqrt(radius.numpy(), out=radius.numpy())
    torch.cos(angle, out=made[:, 0])
    torch.sin(angle, out=made[:, 1])
    out.copy_(made.mul_(radius[:, None]))
    dropped = made.numpy().view(np.int64)  # the 29 digits that float32 has not, counted from the middle
    dropped += (1 << 28) + _UNSURE
    dropped &= (1 << 29) - 1
    if dropped.min(initial=1 << 29) <= 2 * _UNSURE:
        _pairs(u, out)
