"""The conditions of a rollout: the latest actions of each row, prompts and labels, and actions requested ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.conditioning.config import Told
from vidar.rollout.setting import Setting


class ActionTape:
    """The latest `keep` actions of each row, the newest in the last column; each call passes them to the conditioner.

    values: float [B, keep, A]. unknown: bool [B, keep]. next: long [B], the frame number of the next column. The
    tensors are replaced, never changed in place.
    """

    def __init__(self, batch: int, width: int, keep: int) -> None:
        self.values = torch.zeros(batch, keep, width)
        self.unknown = torch.ones(batch, keep, dtype=torch.bool)
        self.next = torch.zeros(batch, dtype=torch.long)
        self._told, self._told_of = Actions(self.values, self.unknown, self.next - keep, {}), self._now()

    def append(self, values: Tensor, unknown: Tensor) -> None:
        """Append the action of one frame to every row: values [B, A], unknown [B]."""
        self.values = torch.cat([self.values[:, 1:], values[:, None].to(self.values)], 1)
        self.unknown = torch.cat([self.unknown[:, 1:], unknown[:, None]], 1)
        self.next = self.next + 1

    def start(self, rows: Sequence[int], values: Tensor, unknown: Tensor, first: int = 0) -> None:
        """Restart some rows with the actions of n frames from number `first` on: values [b, n, A], unknown [b, n]."""
        pick, count, keep = torch.tensor(list(rows)), values.shape[1], self.values.shape[1]
        fresh = torch.zeros(len(pick), keep, values.shape[2]), torch.ones(len(pick), keep, dtype=torch.bool)
        used = min(count, keep)
        fresh[0][:, keep - used :], fresh[1][:, keep - used :] = values[:, count - used :], unknown[:, count - used :]
        self.values = self.values.index_copy(0, pick, fresh[0])
        self.unknown = self.unknown.index_copy(0, pick, fresh[1])
        self.next = self.next.index_fill(0, pick, first + count)

    def __call__(self, layout: Any) -> Actions:
        """The actions of one call; all calls of a frame get the same object, so its columns are embedded once."""
        now = self._now()
        if any(a is not b for a, b in zip(now, self._told_of)):
            self._told, self._told_of = Actions(self.values, self.unknown, self.next - self.values.shape[1], {}), now
        return self._told

    def _now(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.values, self.unknown, self.next


class Conditions:
    """The conditions of each network call: actions per frame, prompts and labels per video."""

    def __init__(self, setting: Setting, tape: ActionTape, told: Sequence[Told], doubled: bool) -> None:
        self.setting, self.tape = setting, tape
        self.whole = _whole(setting, told, doubled)
        self._actions: Actions | None = None
        self._told: Any = None

    def __call__(self, layout: Any) -> Any:
        """The conditions of one call."""
        actions = self.tape(layout)
        return actions if not self.whole else self.of(actions)

    def of(self, actions: Actions) -> Any:
        """The conditions with these actions."""
        if actions is not self._actions:
            conditioner = self.setting.conditioner
            told = {"actions": actions, **self.whole}
            self._actions, self._told = actions, actions if conditioner is None else conditioner.condition(told)
        return self._told


def tell(setting: Setting, told: Any, actions: Actions | None) -> Any:
    """Conditions for calls that all share the same ones.

    told: one `Told` per video, or the conditioner's own record. With guidance the batch is doubled; the unconditional
    rows come last.
    """
    if not isinstance(told, Sequence):
        return told if setting.guidance is None else told.doubled()
    whole = _whole(setting, cast(Sequence[Told], told), setting.guidance is not None)
    if actions is not None and setting.guidance is not None:
        actions = actions.doubled()
    if not whole or setting.conditioner is None:
        return actions
    return setting.conditioner.condition({**({} if actions is None else {"actions": actions}), **whole})


def _whole(setting: Setting, told: Sequence[Told], doubled: bool) -> dict[str, Any]:
    if setting.conditioner is None:
        return {}
    made = setting.conditioner.whole(told)
    return {name: one.doubled() if doubled else one for name, one in made.items()}


class ActionPrefetcher:
    """The actions of rows, taken from an iterator as frames are begun; after its end nothing is pressed.

    total: number of frames whose action the iterator gave, plus the frames of the context.
    """

    def __init__(
        self, tape: ActionTape, source: Iterator[Tensor], tell: Callable[[Tensor], None], rest: Tensor
    ) -> None:
        """tell: appends the actions [B, A] of the next frame to the tape. rest: actions with no key pressed."""
        self.tape, self.source, self.tell, self.rest = tape, source, tell, rest
        self.total, self.ended = int(tape.next[0]), False

    def until(self, frames: int) -> None:
        """Fill the tape with the actions of all frames before number `frames`."""
        while int(self.tape.next[0]) < frames:
            action = None if self.ended else next(self.source, None)
            self.ended = action is None
            self.total += action is not None
            self.tell(self.rest if action is None else action)
