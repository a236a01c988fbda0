"""Counter-based random numbers: every draw is a function of (seed, video, name, unit, step).

No draw depends on another draw, so results do not depend on batch size, chunking, device count, speculation or resume
point. The bit source is Philox 4x64-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011); its raw
words are mapped to numbers here, so the values do not change with the release of numpy.

In training, a key may be drawn only once per step, because two draws of one key give the same number. Every draw
therefore has its own name in `DRAWS`; unit and step are counters within that name. Code that needs the same numbers
again uses `kept`; code that runs twice in a step with different numbers uses `renamed`. Play may draw a key any number
of times: what later units see of a unit is the same for all of them.
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

# Every draw by name, with a description. The name is a part of the key: a new name gives other numbers.
DRAWS = {
    # play and training, data and recorders: the bits of videos, recordings and data sets depend on these
    "start": "the noise that a unit starts from",
    "renoise": "new noise after a call of a unit",
    "token": "the labels of a unit",
    "context": "the noise on what later units see of a unit",
    "init": "how an episode begins: the state of a toy world, or the start clip of an environment",
    "policy": "the actions of a recorder",
    "shuffle": "the order of the samples of an epoch",
    # before training
    "weights": "the weights of a new network, as the seed of torch",
    "codebook": "the vectors of a new codebook",
    # any step
    "torch": "the draws that torch makes itself in a step (dropout), as its seed",
    # tokenizers and decoders
    "latent_noise": "the noise on the input latents of a decoder",
    "dropped_scales": "which scales of a pyramid are left out",
    "revived_codes": "which vectors of a step replace dead codes",
    "dreamed_share": "whether a sample is a dreamed latent, or a clip seen as a dream, or the encoder's own",
    "dreamed_start": "the frame of the data at which a dream begins",
    "dreamed_clip": "the part of a dream that a clip is seen as",
    "shown_share": "whether a clip is shown what the memory has",
    "shown_level": "the amount of noise on what the memory shows",
    "shown_noise": "the noise on what the memory shows",
    # worlds and pictures
    "hidden_actions": "whether the actions of a clip are hidden from the model",
    "hidden_label": "whether the class or text of a picture is hidden from the model",
    "hidden_frames": "which earlier frames a frame does not see",
    "flip": "which label parts are changed, and how",
    "level": "the training level of a unit",
    "context_share": "whether a unit has the level of context",
    "context_level": "the level of what later units see of a unit",
    "prefix_length": "the number of frames of a clean prefix",
    "prefix_offset": "the first position of a clip",
    "worn_amount": "how much what later units see of a clip is worn",
    "worn_kinds": "the proportions of the kinds of wear",
    "worn": "the wear itself",
    "own_context": "whether a batch uses self-generated context",
    "own_generations": "the number of generations of self-generated context",
    "own_start": "the noise that self-generated context starts from",
    "own_factor": "the weight of self-generated context against true context",
    # students
    "consistency_share": "whether a clip learns self-consistency or flow matching",
    "interval": "the step size and the place on the path that a shortcut is trained at",
    "student_level": "the levels of a student of discrete consistency",
    "student_time": "the times of a student of continuous consistency",
    "endpoint_level": "whether a student of endpoints starts from noise, otherwise its level",
    "judged_level": "the noise levels of the discriminator's input",
    "judged_noise": "the noise of the discriminator's input",
    "matching_level": "the level at which two scores are compared",
    "matching_noise": "the noise at which two scores are compared",
    "critic_level": "the training level of a critic",
    "critic_noise": "the training noise of a critic",
    "exit": "the call after which the units of a rollout are taken as final",
    # small models that read worlds
    "wear": "the amount of degradation of a clip",
    "wear_blur": "how the blur of a clip varies over its frames",
    "wear_tint": "the colour of a degraded clip",
    "wear_grain": "the noise on the pixels of a clip, as the seed of torch",
    "mirror": "whether a clip is reversed in time, and whether it is mirrored",
    "outcome_level": "the standard deviation of the noise on the latents of a head",
    "outcome_noise": "the noise on the latents of a head",
}

BELOW_1 = 1 - 2.0**-53  # the largest float64 below 1


class _Source(threading.local):
    """One Philox generator per thread, set to the key of each draw; a new one would ask the system for entropy."""

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
    u = (words >> np.uint64(11)).view(np.int64).astype(np.float64)  # below 2^53; signed is much faster than unsigned
    u += 0.5
    u *= 2.0**-53
    return np.minimum(u, BELOW_1, out=u)  # the last word is rounded up to 1


@dataclass(frozen=True)
class Rng:
    """The random numbers of one video.

    seed: the seed of the job. video: the row's index in the job; in training, the running sample number. attempt: how
    often this part was generated before and discarded; each attempt draws other numbers.
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
        """A copy that draws the keys with the given names once, and then always returns the same numbers."""
        return Kept(self.seed, self.video, self.attempt, self, frozenset(names))

    def renamed(self, **names: str) -> Rng:
        """A copy for a second run of the same code: a draw named by a key of `names` uses the value as its name."""
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
        """A random permutation of range(count), long [count]."""
        return torch.argsort(self.uniform(name, unit, step, (count,)), stable=True)


@dataclass(frozen=True)
class Kept(Rng):
    """See `Rng.kept`. A key is drawn again if more numbers are requested than before."""

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


Key = tuple[Rng, int]  # the Rng and the unit of a draw


def every(rngs: Sequence[Rng], units: Sequence[int]) -> list[Key]:
    """The keys of every unit of every row: R U keys."""
    return [(rng, unit) for rng in rngs for unit in units]


def uniforms(keys: Sequence[Key], name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
    """`Rng.uniform` for many rows and units at once, equal to the bit: float64 [K, *shape]."""
    return torch.from_numpy(_between(_words(keys, name, step, math.prod(shape)))).reshape(len(keys), *shape)


def normals(
    keys: Sequence[Key], name: str, shape: Sequence[int] = (), step: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """`Rng.normal` for many rows and units at once, equal to the bit, rounded to `dtype`: [K, *shape]."""
    count = math.prod(shape)
    half = (count + 1) // 2
    made, many = torch.empty(len(keys), 2, half, dtype=dtype), max(1, _PAIRS // max(half, 1))
    pairs = _pairs32 if dtype == torch.float32 else _pairs
    for first in range(0, len(keys), many):
        words = _words(keys[first : first + many], name, step, 2 * half)
        pairs(_between(words).reshape(-1, 2, half), made[first : first + many])
    return made.flatten(1)[:, :count].reshape(len(keys), *shape)


class Ahead:
    """`Rng.normal` of one name for consecutive units, drawn several units ahead at once, equal to the bit.

    The draws are cached per Rng, for the latest ROWS of them.
    """

    ROWS, UNITS = 1024, 8
    MOST = 1 << 15  # maximum numbers per draw: for large units, drawing several at once gains nothing

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: dict[tuple[Rng, tuple[int, ...]], tuple[int, Tensor]] = {}

    def normal(self, rng: Rng, unit: int, shape: Sequence[int]) -> Tensor:
        """Standard normal, float64 [shape]; do not modify it in place."""
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
_PAIRS = 1 << 15  # pairs of normal numbers computed at once, so that intermediate values stay in the cache of a core
_UNSURE = 64  # units in the last place by which two ways to compute a float64 may differ


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

    torch's float64 functions are faster than numpy's. Both are exact except for a few of the last bits, which float32
    does not use: it keeps 24 of 53 bits. About once in four million draws a number is so close to the middle between
    two float32 values that these bits decide the rounding; then all numbers are computed by `_pairs`.
    """
    made, (first, second) = torch.empty(u.shape, dtype=torch.float64), torch.from_numpy(u).unbind(1)
    radius, angle = torch.log(first).mul_(-2.0), second * (2.0 * math.pi)
    np.sqrt(radius.numpy(), out=radius.numpy())
    torch.cos(angle, out=made[:, 0])
    torch.sin(angle, out=made[:, 1])
    out.copy_(made.mul_(radius[:, None]))
    dropped = made.numpy().view(np.int64)  # the 29 bits that float32 lacks, counted from the middle
    dropped += (1 << 28) + _UNSURE
    dropped &= (1 << 29) - 1
    if dropped.min(initial=1 << 29) <= 2 * _UNSURE:
        _pairs(u, out)
