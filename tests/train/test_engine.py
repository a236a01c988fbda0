"""An engine of one's own: what the loop and `fit` ask of it is the protocol and nothing else."""

import json
from contextlib import nullcontext

import pytest
import torch
from test_loop import ToyDataConfig, ToyMethodConfig, config, losses

from vidar.rng import Rng
from vidar.train import checkpoint
from vidar.train.engine import PlainEngine
from vidar.train.fit import fit
from vidar.train.optim import OptimConfig
from vidar.train.ranks import ALONE


class Descent:
    """Plain gradient descent: no moments, no average, no clipping."""

    def __init__(self, config, model, device):
        self.config, self.model, self.device, self.ranks = config, model, device, ALONE
        self.seeds, self.rates = [], []

    def averaged(self):
        return self.model

    def seed(self, index):
        self.seeds.append(index)

    def forward(self):
        return nullcontext()

    def move(self, batch):
        return batch

    def step(self, loss, lr, count):
        grads = torch.autograd.grad(loss, list(self.model.parameters()))
        self.rates.append((count, lr))
        with torch.no_grad():
            for parameter, grad in zip(self.model.parameters(), grads, strict=True):
                parameter -= lr * grad
        return grads[0].norm()

    def save(self, folder, counters):
        def parts(place):
            (place / "shards").mkdir()
            torch.save(self.model.state_dict(), place / "shards" / "weights")

        return checkpoint.write(folder, counters, self.config, parts)

    def load(self, path):
        self.model.load_state_dict(torch.load(path / "shards" / "weights"))
        return checkpoint.read(path)


def run(steps):
    optim = OptimConfig(lr=0.05, steps=20, warmup_steps=0, min_lr_ratio=1.0)
    return config(optim=optim.replace(steps=steps), data=ToyDataConfig(size=4))


def by_hand(steps):
    """Weights of y = w x + b after so many steps."""
    data = ToyDataConfig(size=4).build()
    with torch.random.fork_rng():
        torch.manual_seed(int(Rng(0).raw("weights", 0, 0, 1)[0] >> 1))
        layer = ToyMethodConfig().build().build_model()[1]
    weight, bias = layer.weight.detach()[0], layer.bias.detach()
    for index in range(steps):
        batch = data.batch(index)
        error = batch.x @ weight + bias - batch.y
        weight = weight - 0.05 * 2 * (error[:, None] * batch.x).mean(0)
        bias = bias - 0.05 * 2 * error.mean()
    return weight, bias


def test_any_engine_trains_saves_and_goes_on(tmp_path):
    made = []

    def engine(*parts):
        made.append(Descent(*parts))
        return made[-1]

    fit(run(8), tmp_path, device="cpu", engine=engine)
    result = fit(run(20), tmp_path, device="cpu", engine=engine, resume="auto")
    weight, bias = by_hand(20)
    torch.testing.assert_close(made[1].model[1].weight.detach()[0], weight)
    torch.testing.assert_close(made[1].model[1].bias.detach(), bias)
    assert made[0].seeds == list(range(8)) and made[1].seeds == list(range(8, 20)), "a batch has its own seed"
    assert [count for count, _ in made[1].rates] == list(range(8, 20))
    assert result.step == 20 and sorted(losses(tmp_path)) == list(range(1, 21))
    assert json.loads((tmp_path / "model" / "bias.json").read_text()) == made[1].model[1].bias.tolist()
    (result.checkpoint / "shards" / "weights").write_bytes(b"torn")
    assert checkpoint.newest(tmp_path / "checkpoints").name == "step-00000008"


def test_a_step_that_is_not_finite_changes_nothing(tmp_path):
    torch.manual_seed(0)
    model = ToyMethodConfig().build().build_model()
    engine = PlainEngine(config(), model, torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model[1].weight
    for loss in (weight.sum() * float("nan"), (weight * 0).square().sum().sqrt()):  # the gradient of the second is NaN
        assert engine.step(loss, 0.1, 0) is None
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not engine.optimizer.state and all(p.grad is None for p in model.parameters())
    assert float(engine.step(weight.sum(), 0.1, 0)) == pytest.approx(2**0.5)
    assert not torch.equal(weight, before["1.weight"])
