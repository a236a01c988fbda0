"""The method: it learns how far a picture turned and sank; its loss and its reversed clips are what they say."""

import math

import pytest
import torch

from vidar.configs.pose import pose
from vidar.data.index import Index
from vidar.data.loader import ClipBatch, ClipsConfig
from vidar.nn.pose import MIRRORED, PoseNet, PoseNetConfig, motion, turned
from vidar.rng import Rng
from vidar.train.methods.inverse_dynamics import WearConfig
from vidar.train.methods.pose import PoseConfig, either_way
from vidar.types import UsageError

VIEW = 86.3
NET = PoseNetConfig(
    height=16, width=24, view=VIEW, turn=6, shift=2, stem=(8, 8), widths=(16, 16), head=8, hidden=32, scale=(3, 3, 3)
)
PLAIN = PoseConfig(model=NET, wear=None)


def toy(seed, batch=16, frames=4):
    """Smooth pictures that turn by any angle, and sink by whole pixels: ahead, as far as the poses say."""
    random = torch.Generator().manual_seed(seed)
    ground = torch.rand(batch, 3, 10, 10, generator=random)
    ground = torch.nn.functional.interpolate(ground, (40, 40), mode="bicubic", align_corners=True).clamp(0, 1) * 255
    turns = (torch.rand(batch, frames, generator=random) * 2 - 1) * 5
    sinks = torch.randint(-1, 2, (batch, frames), generator=random)
    poses, clips = torch.zeros(batch, frames, 4), torch.empty(batch, frames, 16, 24, 3, dtype=torch.uint8)
    angle, place, row = turns[:, 0].clone(), torch.zeros(batch, 2), 12 + 0 * sinks[:, 0]
    for t in range(frames):
        if t:
            row = row + sinks[:, t]
            angle = angle + turns[:, t] / 2
            heading = torch.deg2rad(angle)
            place = place + 3 * sinks[:, t, None] * torch.stack([heading.cos(), heading.sin()], -1)
        poses[:, t, :2], poses[:, t, 3] = place, angle
        for b in range(batch):
            now = turned(ground[b : b + 1, :, row[b] : row[b] + 16, 8:32], angle[b : b + 1], VIEW)[0]
            clips[b, t] = now[0].permute(1, 2, 0).round().to(torch.uint8)
    unknown, number = torch.zeros(batch, frames, dtype=torch.bool), torch.arange(batch) + seed * batch
    return ClipBatch(clips, torch.zeros(batch, frames, 0), unknown, number, ["toy"] * batch, {"pose": poses})


def rngs(batch):
    return [Rng(0, number) for number in batch.number.tolist()]


def trained(config, batches, steps):
    torch.manual_seed(0)
    method = config.build()
    net = method.build_model()
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
    for step in range(steps):
        batch = batches[step % len(batches)]
        method.step(net, batch, rngs(batch)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


def test_it_learns_what_moves_the_picture():
    net = trained(PLAIN, [toy(seed) for seed in range(30)], 90)
    fresh = toy(1000, batch=32)
    true, read = motion(fresh.extras["pose"]), net.read(fresh.video)[0]
    errors, usual = (read - true).abs().mean((0, 1)), true.abs().mean((0, 1))
    assert errors[0] < 0.35 * usual[0] and errors[1] < 0.2 * usual[1] and errors[2] < 0.1, (errors, usual)


def test_it_learns_where_it_does_not_know():
    """Half of the clips are grey: there its error is the usual motion, and it says so; elsewhere it is smaller."""
    batches = [toy(seed) for seed in range(30)]
    for batch in batches:
        batch.video[::2] = 128
    net = trained(PLAIN.replace(doubt=0.3), batches, 90)
    fresh = toy(1000, batch=64)
    fresh.video[::2] = 128
    off = (net.read(fresh.video)[0] - motion(fresh.extras["pose"])).abs()[..., :2].mean(1)
    expected = net.read(fresh.video)[1][..., :2].mean(1)
    for part in (slice(0, None, 2), slice(1, None, 2)):
        assert torch.allclose(expected[part].mean(0), off[part].mean(0).float(), rtol=0.5)
    assert (expected[::2].mean(0) > 2 * expected[1::2].mean(0)).all()


def test_reversed_and_mirrored_clips():
    batch = toy(3, batch=40)
    poses = batch.extras["pose"]
    poses[..., 0] += torch.randn(poses.shape[:2], generator=torch.Generator().manual_seed(0))  # also to the side
    clips, found = either_way(batch.video, poses, rngs(batch))
    kinds = set()
    for clip, path, new, moved in zip(batch.video, poses, clips, found):
        forms = {
            (back, mirror): (
                (clip.flip(0) if back else clip).flip(2) if mirror else (clip.flip(0) if back else clip),
                motion(path.flip(0) if back else path) * (torch.tensor(MIRRORED) if mirror else torch.ones(3)),
            )
            for back in (False, True)
            for mirror in (False, True)
        }
        form = next(key for key, (frames, _) in forms.items() if torch.equal(frames, new))
        assert torch.allclose(forms[form][1], moved)
        kinds.add(form)
    assert len(kinds) == 4
    back = motion(poses[:1].flip(1))[0].flip(0)
    assert torch.allclose(back[:, 0], -motion(poses[:1])[0, :, 0])
    length = torch.linalg.norm(motion(poses[:1])[0, :, 1:], dim=-1)
    assert torch.allclose(torch.linalg.norm(back[:, 1:], dim=-1), length)


def test_loss_by_hand():
    class Fixed(torch.nn.Module):
        def forward(self, video):
            return torch.tensor([[[1.0, 3.0, 0.0]]]), torch.tensor([[[3.0, 6.0, 3.0]]])

    batch = ClipBatch(
        torch.zeros(1, 2, 16, 24, 3, dtype=torch.uint8),
        torch.zeros(1, 2, 0),
        torch.zeros(1, 2, dtype=torch.bool),
        torch.zeros(1, dtype=torch.long),
        ["a"],
        {"pose": torch.zeros(1, 2, 4)},
    )
    loss = PLAIN.replace(delta=0.5, doubt=0.1).build().step(Fixed(), batch, rngs(batch))
    parts = 0.5 * (1 / 3) ** 2, 0.5 * (1.0 - 0.25), 0.0  # 1 and 3 in units of 3
    doubt = (1 / 3 + 0 + 1 / 2 + math.log(2) + 0 + 0) / 3
    assert math.isclose(loss.total, sum(parts) / 3 + 0.1 * doubt, rel_tol=1e-6)
    wanted = {"turn": 1.0, "ahead": 3.0, "left": 0.0, "doubt": doubt}
    assert {name: float(value) for name, value in loss.parts.items()} == pytest.approx(wanted)


def test_wear_is_applied_and_keyed():
    worn = PLAIN.replace(wear=WearConfig(intact=0.0, noise=0.6)).build()
    net, batch = worn.build_model(), toy(5, batch=4)
    again = [worn.step(net, batch, rngs(batch)).total for _ in range(2)]
    assert torch.equal(*again) and not torch.equal(again[0], PLAIN.build().step(net, batch, rngs(batch)).total)


def test_data_without_pose_or_of_another_size_is_refused():
    config = pose()
    config.method.check(config.data)
    with pytest.raises(UsageError, match="needs the extra 'pose'"):
        config.method.check(ClipsConfig(path="x", clip_frames=6, batch=2))
    index = Index(spec=None, fps=17.5, height=32, width=40, shards=())
    with pytest.raises(UsageError, match="runs/data/pose: frames are 32 x 40, the network reads 64 x 80"):
        config.method.check_data(config.data, index)
    config.method.check_data(config.data, None)


def test_export(tmp_path):
    method = PLAIN.build()
    net = method.build_model().eval()
    method.export(net, tmp_path)
    clip, rounded = toy(0, batch=2).video, net.bfloat16().to(torch.float32)
    assert all(map(torch.equal, PoseNet.from_pretrained(tmp_path).float()(clip), rounded(clip)))
