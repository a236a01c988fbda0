"""One model for worlds and clips: what it is told goes together, files of earlier versions load, names stay."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vidar
from vidar.conditioning.compose import ComposeConditionerConfig
from vidar.conditioning.config import NOTHING, Told
from vidar.conditioning.label import LabelEmbedConfig
from vidar.conditioning.text import ByteEncoder, ByteEncoderConfig, TextConfig
from vidar.config import load_file
from vidar.configs.acdit import acdit_doom
from vidar.configs.infinitystar import infinitystar_shapes
from vidar.configs.mmpl import mmpl_doom
from vidar.configs.nfd import world_nfd
from vidar.configs.videoar import videoar_doom
from vidar.model.fingerprint import fingerprint
from vidar.model.load import SHIPPED, load, load_config, save
from vidar.nn.mixers import CrossAttentionConfig
from vidar.play.engine import PlayEngine, Start
from vidar.play.env import WorldVectorEnv
from vidar.play.recording import keep, read, replay
from vidar.rng import Rng
from vidar.rollout.hooks import ReencodeEvery
from vidar.sampling.guidance import GuidanceConfig
from vidar.synth.planning import PlanTask, PlanWorker, PopTask, SegmentActions
from vidar.synth.segments import SegmentWorker, Task, boundary_frames
from vidar.types import UsageError

HERE = Path(__file__).parent
KINDS = {"frames": world_nfd, "scales": videoar_doom, "blocks": acdit_doom, "plans": mmpl_doom}


def told_world(kind, **changes):
    """A world that reads a prompt (one kind) or a label (the others) beside its actions."""
    config = KINDS[kind](preset="tiny").method.world
    backbone, width = config.net.backbone, config.net.backbone.width
    reader = LabelEmbedConfig(num_labels=3, width=width)
    if kind == "frames":
        reader = TextConfig(encoder=ByteEncoderConfig(width=16, depth=1), width=width, memory_width=16)
        backbone = backbone.replace(mixers=(*backbone.mixers, CrossAttentionConfig()), memory_width=16)
    parts = {"acts": config.net.conditioner, "what": reader}
    net = config.net.replace(backbone=backbone, conditioner=ComposeConditionerConfig(parts=parts))
    torch.manual_seed(0)
    made = config.replace(net=net, context=6, **changes).build()
    with torch.no_grad():
        for parameter in [*made.net.parameters(), *made.tokenizer.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def world(kind):
    return told_world(kind)


def ways(kind):
    """Two things to tell it."""
    return [{"prompt": "a red room"}, {"prompt": "blue"}] if kind == "frames" else [{"label": 0}, {"label": 2}]


def start(world, seed=0):
    config = world.config
    size = (6, config.height, config.width, 3)
    return np.random.default_rng(seed).integers(200 * seed, 50 + 200 * seed, size, dtype=np.uint8)  # dark, or light


def keys(world, count):
    pressed = np.tile(world.config.spec.noop(), (count, 1))
    pressed[::2, 0] = 1
    return pressed


def test_prompt_or_label_actions_and_context_go_together(world, kind):
    one, other = ways(kind)
    assert world.config.accepts == ("actions", *one)
    made = [
        world.generate(start(world, seed), actions, seed=3, **told).frames
        for seed, actions, told in (
            (0, keys(world, 4), one),
            (0, keys(world, 4), one),
            (0, keys(world, 4), other),
            (0, keys(world, 4), {}),
            (0, 0 * keys(world, 4), one),
            (1, keys(world, 4), one),
        )
    ]
    assert np.array_equal(made[0], made[1])
    assert all(not np.array_equal(made[0], different) for different in made[2:])


def test_rows_are_told_each_their_own(world, kind):
    """To the eye of a batch: a row is what it is alone, whatever the others are told."""
    one, other = (Told(**told) for told in ways(kind))
    world.net.double()
    codes = world.encode(torch.from_numpy(np.stack([start(world)] * 2)))
    both, alone = world.rollout(2), world.rollout(2)
    both.open(range(2), codes, None, [Rng(1), Rng(1)], told=[one, other])
    alone.open([1], codes[1:], None, [Rng(1)], told=[other])
    held = torch.from_numpy(keys(world, 1)[0]).expand(2, both.due, -1)
    made = both.group(held)
    torch.testing.assert_close(made[1], alone.group(held)[1], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(made[0], made[1])
    world.net.float()


def test_guidance_weighs_what_is_told(kind):
    world, told = told_world(kind), ways(kind)[0]
    asked = start(world), keys(world, 3)
    plain = world.generate(*asked, seed=1, **told).frames
    one = world.generate(*asked, seed=1, guidance=GuidanceConfig(first=1.0, last=1.0), **told).frames
    much = world.generate(*asked, seed=1, guidance=GuidanceConfig(first=4.0, last=4.0), **told).frames
    assert np.abs(plain.astype(int) - one.astype(int)).max() <= 1 and not np.array_equal(one, much)
    deaf = GuidanceConfig(first=0.0, last=0.0)  # weight 0: the branch that is told nothing, alone
    heard = [world.generate(*asked, seed=1, guidance=deaf, **told).frames.astype(int) for told in (*ways(kind), {})]
    assert max(np.abs(heard[0] - other).max() for other in heard[1:]) <= 1


def test_it_is_saved_played_and_replayed(world, kind, tmp_path):
    told = Told(**ways(kind)[0])
    save(world, tmp_path / "m", torch.float32)
    again = load(tmp_path / "m", dtype=torch.float32)
    assert again.config == world.config and fingerprint(again) == fingerprint(world)
    frames = {}
    for said in (told, NOTHING):
        engine = PlayEngine(again, 1)
        slot = engine.sit(Start(start(world), None, 4, said))
        slot.asked = 1e18
        for _ in range(engine.streams.per_group):
            slot.press(keys(world, 1)[0])
            engine.round()
        frames[said] = slot.shown.frame
        keep(slot, tmp_path / "one.dream")
        assert np.array_equal([*replay(again, read(tmp_path / "one.dream"))][-1], slot.shown.frame)
        engine.stop()
    assert not np.array_equal(frames[told], frames[NOTHING])
    env = WorldVectorEnv(1, again)
    env.reset(seed=4, options={"context": start(world), **ways(kind)[0]})
    assert np.array_equal(env.step(keys(world, 1))[0][0], frames[told])


def test_segments_of_long_videos_are_told_too(world, kind):
    """Of streams a segment and the one after it; planned ones plan and fill."""
    told, made = Told(**ways(kind)[0]), {}
    for said in (told, NOTHING):
        if kind == "plans":
            values = np.tile(world.config.spec.noop(), (world.config.order.map.length, 1))
            actions, segment_worker = SegmentActions(values, np.zeros(len(values), bool)), PlanWorker(world)
            (planned,) = segment_worker.make([PlanTask(0, 0, 1, start(world), actions, said)])
            (done,) = segment_worker.make(
                [PopTask(0, 0, 1, planned.plan, actions, said, (segment_worker.chain.first, segment_worker.chain.made))]
            )
        else:
            segment_worker, length = SegmentWorker(world, 1), boundary_frames(world.config)
            (first,) = segment_worker.make([Task(0, 0, 0, 1, start(world), keys(world, length), said)])
            (done,) = segment_worker.make([Task(0, 1, 0, 1, first.after, keys(world, 4), said)])
        made[said] = done.frames
    assert not np.array_equal(made[told], made[NOTHING])


def test_a_renewed_stream_is_still_told(world, kind):
    """After every group the stream begins anew; what follows hears what it was told."""
    per, (one, _) = world.rollout(1).per_group, ways(kind)
    asked = {"context": start(world), "actions": keys(world, 2 * per), "seed": 1, "renew": per}
    told, plain = (np.stack([*world.stream(**asked, **said)]) for said in (one, {}))
    assert not np.array_equal(told[per:], plain[per:])
    rollout = world.rollout(1)
    hook = ReencodeEvery(rollout, per, [Rng(1)])
    rollout.begin(0, start(world), None, 1, Told(**one))
    codes = rollout.group(torch.from_numpy(keys(world, per))[None])
    for code in codes.unbind(1):
        hook.after(code, torch.from_numpy(keys(world, 1)), lambda: torch.zeros(1, *start(world).shape[1:]).byte())
    assert rollout.told == [Told(**one)]


def test_what_it_does_not_take_is_said_in_one_line(world, kind):
    wrong = {"label": 1} if kind == "frames" else {"prompt": "a room"}
    with pytest.raises(UsageError, match="takes actions and a .*, and no "):
        world.generate(start(world), num_frames=1, **wrong)
    with pytest.raises(UsageError, match="label 3 is out of range|has 300 bytes"):
        world.generate(start(world), num_frames=1, **({"prompt": "x" * 300} if kind == "frames" else {"label": 3}))
    with pytest.raises(UsageError, match="no conditioner can be called 'keys'"):
        ComposeConditionerConfig(parts={"keys": world.config.net.conditioner})
    with pytest.raises(UsageError, match="one video at a time"):
        world.generate(start(world), num_frames=1, seed=[1, 2])
    with pytest.raises(UsageError, match="two conditioners read the same"):
        ComposeConditionerConfig(parts={"a": world.config.net.conditioner, "b": world.config.net.conditioner})


def test_a_prompt_is_read_once_for_a_video(monkeypatch):
    """Once for the calls that read the context, once for those of all frames after it."""
    world, read, plain = told_world("frames"), [], ByteEncoder.forward
    monkeypatch.setattr(ByteEncoder, "forward", lambda self, text: (read.append(1), plain(self, text))[1])
    world.generate(start(world), keys(world, 6), prompt="a red room")
    assert len(read) <= 2


def test_clips_of_any_order_and_objective():
    """Eight frames of rectified flow from a class, without actions: a config alone makes them."""
    config = KINDS["frames"](preset="tiny").method.world
    reader = LabelEmbedConfig(num_labels=3, width=config.net.backbone.width)
    config = config.replace(frames=8, actions=None, net=config.net.replace(conditioner=reader))
    torch.manual_seed(0)
    model = config.build()
    with torch.no_grad():
        for parameter in [*model.net.parameters(), *model.tokenizer.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made = model.generate(label=[0, 2, 0], seed=[5, 5, 5]).frames
    assert made.shape == (3, 8, config.height, config.width, 3)
    assert np.abs(made[0].astype(int) - made[2]).max() <= 1 and not np.array_equal(made[0], made[1])
    assert model.generate(label=1, num_frames=5).frames.shape[1] == 5
    one = model.generate(label=[0], seed=[5], steps=1)
    assert len(one.seconds) < len(model.generate(label=[0], seed=[5]).seconds)
    assert not np.array_equal(one.frames, made[:1])
    with pytest.raises(UsageError, match="is told no actions|takes no actions"):
        model.generate(label=1, actions=np.zeros((5, 1)))
    with pytest.raises(UsageError, match="give frames, 1 for an image"):
        infinitystar_shapes(preset="tiny").method.pictures.replace(frames=None)


def test_files_of_earlier_versions_load():
    """Of a world and of a model of clips, as they were written before both were one."""
    assert load_file(HERE / "old_world.json") == load_config(SHIPPED / "doom")
    assert load_file(HERE / "old_clips.json") == infinitystar_shapes(preset="tiny").method.pictures
    assert "vidar.world." in (HERE / "old_world.json").read_text() + (HERE / "old_clips.json").read_text()
    now = json.loads((SHIPPED / "doom" / "world.json").read_text())
    assert now["type"] == "vidar.model.model.VideoModelConfig"


def test_the_name_of_a_world_is_the_one_that_its_recordings_know():
    assert fingerprint(vidar.load("doom")) == "1e7fb2ec5cab8cc4"
