"""The adversarial term: whose gradients go where, what it teaches, and that it is trained and kept with the run."""

import pytest
import torch
from made_up import made_up
from torch import nn

from vidar.configs.students import world_doom_scm, world_doom_student
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.methods.adversary import AdversaryConfig, Student, hinge_terms
from vidar.types import UsageError

NOW = AdversaryConfig(blocks=(0, 1), width=32, start=0, warmup=1, weight=0.5)


def frozen_features(width=16):
    """A network of two layers that stands for a teacher."""
    torch.manual_seed(0)
    first, second = nn.Linear(3, width), nn.Linear(width, width)
    for layer in (first, second):
        layer.requires_grad_(False)

    def features(x, level):
        middle = torch.tanh(first(torch.cat([x, level], -1)))
        return [middle, torch.tanh(second(middle))]

    return features


def test_a_student_moves_to_the_real_distribution():
    """Real N((2, -1), 0.5^2), made N(theta, 0.5^2), theta from 0; the mean of the last steps, as adversaries circle."""
    features, goal = frozen_features(), torch.tensor([2.0, -1.0])
    judge = AdversaryConfig(blocks=(0, 1), width=16).build()
    theta = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([{"params": [theta]}, {"params": judge.parameters()}], 1e-2, betas=(0.5, 0.9))
    path = []
    for _ in range(600):
        real, fake = goal + 0.5 * torch.randn(128, 2), theta + 0.5 * torch.randn(128, 2)
        level = torch.sigmoid(torch.randn(128, 1))
        student, adversary = hinge_terms(judge, features, real, fake, level, torch.randn(128, 2))
        optimizer.zero_grad()
        (student + adversary).backward()
        optimizer.step()
        path.append(theta.detach().clone())
    assert (torch.stack(path[-200:]).mean(0) - goal).norm() < 0.2 * goal.norm()


def test_neither_loss_reaches_the_other_side():
    judge = AdversaryConfig(blocks=(0, 1), width=16).build()
    fake, real = torch.randn(8, 2, requires_grad=True), torch.randn(8, 2)
    level = torch.full((8, 1), 0.4)
    student, adversary = hinge_terms(judge, frozen_features(), real, fake, level, torch.randn(8, 2))
    student.backward()
    assert fake.grad.abs().sum() > 0 and all(p.grad is None for p in judge.parameters())
    fake.grad = None
    adversary.backward()
    assert fake.grad is None and all(p.grad is not None for p in judge.parameters())
    assert all(p.grad.any() for p in judge.parameters() if p.ndim > 1)  # a bias may stand between real and fake


def test_the_weight_starts_late_and_ends_at_lambda():
    config = NOW.replace(start=10, warmup=4, weight=2.0)
    assert [float(config.lambda_at(torch.tensor(n))) for n in (0, 10, 11, 14, 100)] == [0, 0, 0.5, 2, 2]


def job_of(recipe, folder, adversary=NOW):
    """The recipe, its adversary at work from the second step on."""
    config = made_up(recipe, folder / "tokenizer")
    config = config.replace(method=config.method.replace(adversary=adversary))
    return build(config, folder / "run", torch.device("cpu"))


@pytest.mark.parametrize("recipe", [world_doom_student, world_doom_scm])
def test_the_teacher_is_frozen_and_only_student_and_judge_learn(recipe, tmp_path, one_thread):
    job = job_of(recipe, tmp_path)
    teacher = job.method.teacher.net
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    train_step(job, job.data.batch(0), 1e-3)
    batch = job.data.batch(1)
    rngs = [Rng(0, number) for number in batch.number.tolist()]
    loss = job.method.step(job.model, batch, rngs)
    loss.total.backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, frozen[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad.any() for p in job.model.judge.parameters() if p.ndim > 1)
    moved = {
        name.split(".")[0] for name, value in job.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"net", "judge", "steps"}
    parts = loss.parts
    assert parts["gan"] != 0
    torch.testing.assert_close(loss.total.detach(), parts["consistency"] + parts["gan"] + parts["adversary"])
    with_it = [p.grad.clone() for p in job.model.net.parameters() if p.grad is not None]
    job.model.zero_grad()
    job.model.judge = None
    job.model.steps.fill_(1)
    job.method.step(job.model, batch, rngs).total.backward()
    without = [p.grad for p in job.model.net.parameters() if p.grad is not None]
    assert any(not torch.allclose(a, b) for a, b in zip(with_it, without))


def test_student_and_judge_are_saved_and_go_on_bit_for_bit(tmp_path, one_thread):
    one = job_of(world_doom_student, tmp_path)
    for index in range(2):
        train_step(one, one.data.batch(index), 1e-3)
        one.counters.cursor += 1
    path = one.engine.save(tmp_path / "kept", one.counters)
    other = build(one.config, tmp_path / "other", torch.device("cpu"))
    other.counters = other.engine.load(path)
    assert int(other.model.steps) == 2
    for job in (one, other):
        train_step(job, job.data.batch(2), 1e-3)
    states = (job.model.state_dict() for job in (one, other))
    first, second = states
    assert "judge.heads.1.3.weight" in first and first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_compiling_a_student_compiles_the_parts_of_its_networks():
    net, critic = (world_doom_student(preset="tiny").method.world.net.build() for _ in range(2))
    Student(net, None, critic).compile()
    for one in (net, critic):
        assert all(block.mlp._compiled_call_impl is not None for block in one.backbone.blocks)
        assert one._compiled_call_impl is None


@pytest.mark.parametrize(
    "changes, named", [({"blocks": (0, 2)}, "must lie in 0 .. 1"), ({"width": 8}, "teacher's is 32")]
)
def test_what_does_not_fit_the_teacher_is_refused(changes, named):
    for recipe in (world_doom_student, world_doom_scm):
        with pytest.raises(UsageError, match=named):
            recipe(preset="tiny").method.replace(adversary=NOW.replace(**changes)).build()
