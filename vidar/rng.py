"""Counter-based randomness: every draw is a function of (seed, video, purpose, unit, step).

No draw depends on another one, so results do not depend on batch size, chunking, device count, speculation or resume
point. Philox 4x64-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011) is the bit source; its raw
words are mapped to numbers here, so the values do not change with the release of numpy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidar.types import UsageError

PURPOSES = frozenset(
    ("start", "renoise", "token", "confidence", "context", "level", "keep")
    + ("drop", "flip", "exit", "init", "shuffle", "policy")
)


@dataclass(frozen=True)
class Rng:
    """seed: of the job. video: the row's index in the job; in training the running sample number.

    attempt: how often this part was drawn before and taken back; each attempt draws anew.
    """

    seed: int
    video: int = 0
    attempt: int = 0

    def raw(self, purpose: str, unit: int, step: int, count: int) -> np.ndarray:
        """`count` raw 64-bit words, uint64 [count]. Raises UsageError for an unknown purpose."""
        if purpose not in PURPOSES:
            raise UsageError(f"unknown random purpose {purpose!r}; valid: {', '.join(sorted(PURPOSES))}")
        again = f"/{self.attempt}" if self.attempt else ""
        name = f"{self.seed}/{self.video}/{purpose}/{unit}/{step}{again}".encode()
        key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
        return np.random.Philox(key=key).random_raw(count)

    def _uniform(self, purpose: str, unit: int, step: int, count: int) -> np.ndarray:
        words = self.raw(purpose, unit, step, count) >> np.uint64(11)
        return (words.astype(np.float64) + 0.5) * 2.0**-53

    def uniform(self, purpose: str, unit: int = 0, step: int = 0, shape: Sequence[int] = ()) -> Tensor:
        """Uniform in (0, 1), float64 [shape]; never 0 or 1."""
        return torch.from_numpy(self._uniform(purpose, unit, step, math.prod(shape)).reshape(tuple(shape)))

    def normal(self, purpose: str, unit: int = 0, step: int = 0, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal (Box-Muller), float64 [shape]."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u = self._uniform(purpose, unit, step, 2 * half)
        radius, angle = np.sqrt(-2.0 * np.log(u[:half])), 2.0 * math.pi * u[half:]
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return torch.from_numpy(both[:count].reshape(tuple(shape)))

    def gumbel(self, purpose: str, unit: int = 0, step: int = 0, shape: Sequence[int] = ()) -> Tensor:
        """Standard Gumbel, float64 [shape]."""
        return -torch.log(-torch.log(self.uniform(purpose, unit, step, shape)))

    def permutation(self, purpose: str, count: int, unit: int = 0, step: int = 0) -> Tensor:
        """A random order of range(count), long [count]."""
        return torch.argsort(self.uniform(purpose, unit, step, (count,)), stable=True)
