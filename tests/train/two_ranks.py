"""One of two processes that train together: torch.distributed over gloo, gradients averaged after each backward.

    python tests/train/two_ranks.py RANK FOLDER CASE ...

It writes FOLDER/CASE-RANK.json. A case that ends in "-apart" is that of ranks which do not agree.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from made_up import made_up
from test_loop import ToyData, ToyDataConfig, ToyMethod, config, losses

from vidar.conditioning.net import WorldNet
from vidar.configs.catalog import find
from vidar.train import checkpoint
from vidar.train.engine import PlainEngine
from vidar.train.fit import build, fit
from vidar.train.loop import train_step
from vidar.train.methods.world import OwnContextConfig

STEPS = 6


class Gloo:
    world_size = 2

    def __init__(self, apart=False):
        self.rank, self.apart = dist.get_rank(), apart

    def agree(self, value):
        told = torch.tensor(value, dtype=torch.float64)
        if not self.apart:
            dist.broadcast(told, 0)
        return float(told)

    def mean(self, value):
        total = value.clone()
        dist.all_reduce(total)
        return total / self.world_size


class Averaging(PlainEngine):
    apart = False

    def __init__(self, *parts):
        super().__init__(*parts)
        self.ranks = Gloo(self.apart)

    def backward(self, loss):
        loss.backward()
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad = self.ranks.mean(parameter.grad)

    def save(self, folder, counters):
        path = super().save(folder, counters) if self.ranks.rank == 0 else folder / f"step-{counters.step:08d}"
        dist.barrier()
        return path


class Apart(Averaging):
    apart = True


def forwards(recipe, folder, engine):
    """Of each step, the slots of every forward of the network; and the sum of the weights at the end."""
    made = made_up(find(recipe), folder / "parts")
    method, data = made.method, made.data.replace(like=made.data.like.replace(batch=2))
    if "own_context" in type(method).model_fields:
        method = method.replace(own_context=OwnContextConfig(share=0.5, generations=3))
    if "share" in type(method).model_fields:
        method = method.replace(share=0.5)
    job = build(made.replace(method=method, data=data), folder, torch.device("cpu"), engine)
    plain, seen = WorldNet.forward, []
    WorldNet.forward = lambda net, inputs, *rest: (seen[-1].append(inputs.shape[1]), plain(net, inputs, *rest))[1]
    try:
        for _ in range(STEPS):
            seen.append([])
            assert train_step(job, job.data.batch(job.index), 1e-3) is not None
            job.counters.cursor += 1
    finally:
        WorldNet.forward = plain
    return {"seen": seen, "weights": [float(p.detach().double().sum()) for p in job.model.parameters()]}


def toy(name, folder):
    """A run of the toy: plain, with a batch that rank 1 alone cannot use, or with a signal to rank 1 alone."""
    data = ToyDataConfig(size=4, bad=(9,) if name == "toy-bad" else ())
    if name == "toy-stop" and dist.get_rank() == 1:
        ToyData.kill = 9, signal.SIGTERM
    plain, wrote = ToyMethod.export, []
    ToyMethod.export = lambda method, *rest: (wrote.append("export"), plain(method, *rest))[1]
    shown, ToyMethod.sample = ToyMethod.sample, lambda *_: wrote.append("sample")
    result = fit(config(steps=12, data=data, minutes=60.0, sample_every=8), folder, device="cpu", engine=Averaging)
    ToyMethod.export, ToyMethod.sample = plain, shown
    left = {**dataclasses.asdict(result), "out": "", "checkpoint": result.checkpoint.name, "model": wrote}
    if dist.get_rank() == 0:
        left["weights"] = {
            k: v.tolist() for k, v in checkpoint.load_file(result.checkpoint / "ema.safetensors").items()
        }
        left["losses"] = losses(folder)
    return left


def main(rank, folder, *cases):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=int(rank), world_size=2)
    for case in cases:
        name, place = case.removesuffix("-apart"), Path(folder) / case
        mine = place if name.startswith("toy") else place / rank
        mine.mkdir(parents=True, exist_ok=True)
        made = toy(name, mine) if name.startswith("toy") else forwards(name, mine, Averaging if name == case else Apart)
        (Path(folder) / f"{case}-{rank}.json").write_text(json.dumps(made))
    dist.barrier()
    sys.stderr.flush()
    os._exit(0)  # all is written; threads of gloo may abort a process that ends while the other one still talks to it


if __name__ == "__main__":
    main(*sys.argv[1:])
