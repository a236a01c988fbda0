"""Shared by the suite: pictures, and a placement without processes."""

from collections import deque

import numpy as np
import torch

from vidar.data.video import write_video
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load, save
from vidar.model.start_hashes import START
from vidar.synth.placement import Lost, Ready
from vidar.synth.planning import worker_for

SEGMENT = 12  # the tiny world looks 11 frames back


def pictures(count, seed):
    """uint8 [count, 64, 80, 3]: coloured blocks that move."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(blocks, 3 * n, 1) for n in range(count)])


def lively(config):
    """An untrained world whose network does something, one solver step a frame."""
    torch.manual_seed(0)
    made = config.with_steps(1).build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def stored(world, folder):
    """Its folder, with a start of 5 frames."""
    save(world, folder, dtype=torch.float32)
    write_video(folder / START, pictures(5, 0), 17.5)
    return folder


class Here:
    """A placement in this process, one event at a time. lose: (job, number, row of its batch) -> whether it is lost."""

    worlds = {}

    def __init__(self, count, model, device, rows, lose=lambda task: False, weights=None):
        if model not in self.worlds:
            self.worlds[model] = load(model)
        world = self.worlds[model]
        dtype = str(next(world.net.parameters()).dtype).removeprefix("torch.")
        self.rows, self.lose, self.segment_worker = rows, lose, worker_for(world, rows)
        self.ready = Ready(weights or fingerprint(world), dtype)
        self.items, self.batches, self.events, self.closed = [], [], deque(), False

    @property
    def free(self):
        return [0] if self.ready is None and not self.events else []

    def submit(self, worker, tasks):
        assert worker in self.free and 1 <= len(tasks) <= self.rows
        assert len(tasks) == 1 or len({task.row for task in tasks}) == len(tasks)
        self.batches.append([(task.job, task.number) for task in tasks])
        self.items += [task.item for task in tasks]
        left = list(tasks)
        for made in self.segment_worker.make(tasks):
            if any(self.lose(task) for task in left):
                return self.events.append(Lost(tuple(left), "lost on purpose"))
            left = [task for task in left if task.item != made.item]
            self.events.append(made)

    def wait(self):
        if self.ready is not None:
            self.ready, ready = None, self.ready
            return [ready]
        return [self.events.popleft()]

    def close(self):
        self.closed = True
