"""What a training run takes of memory, known before anything is allocated, and the refusal where there is less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from vidar.conditioning.action import Actions
from vidar.conditioning.text import TextConfig
from vidar.data.index import load_index
from vidar.data.loader import ClipsConfig
from vidar.rng import Rng
from vidar.train.config import TrainConfig
from vidar.train.dreams import DreamClipsConfig
from vidar.train.latents import LatentBatch, LatentClipsConfig
from vidar.train.methods.adversary import Student
from vidar.train.methods.autoencode import AdversarialPair, AnyAutoencoder, AutoencodeConfig
from vidar.train.methods.decode import DecodeConfig
from vidar.train.methods.distillation import Distillation, DistillationConfig
from vidar.train.methods.next_scale import TrainScalesConfig
from vidar.train.methods.noised import noised
from vidar.train.methods.outcome import OutcomeConfig
from vidar.train.methods.pictures import TrainPicturesConfig
from vidar.train.methods.prefix import TrainPrefixConfig
from vidar.train.methods.world import TrainWorldConfig
from vidar.train.outcomes import OutcomeClipsConfig
from vidar.train.pictures import PictureClipsConfig
from vidar.types import Segment, UsageError, VidarError
from vidar.world.world import World

LatentMethod = TrainWorldConfig | TrainScalesConfig | TrainPrefixConfig
TRAINED_BYTES = 20  # fp32 weight, gradient, two moments of Adam: 16; the averaged weight: 4
FROZEN_BYTES = 8  # weight and its copy in the average
TEACHER_BYTES = 4  # a weight that is no part of what is trained
PEAK = 1.4  # what a backward pass holds for an instant, and the allocator's slack; Choice: measured, see below
MOST_SLOTS = 16_384  # of a sequence whose step is estimated
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def training_bytes(config: TrainConfig) -> dict[str, int | None]:
    """states: weights, gradients, moments, average; activations: the most that one step holds; total.

    teacher: of a student, the world that it learns from; its activations are among those of the step.

    A step runs on tensors without storage; every distinct storage that autograd keeps is counted in fp32, times 1.4.
    With bf16, or compiled, it is less. Cached data is not counted. null where the method is unknown, or the frame size
    because the data is not there.

    Growth of the resident memory of a CPU process over 6 steps in fp32, beside the total, in MB: world_doom batch 6
    1,110 (1,119), batch 24 3,752 (3,919); tokenizer_doom batch 6 100 (86), 48 434 (422). Over 3 steps of batch 6:
    world_doom_student 1,062 (1,209), world_doom_scm 1,693 (1,915).
    """
    step = meta_step(config)
    if step is None:
        return {"states": None, "activations": None, "total": None}
    model, call = step
    beside = {}
    if isinstance(model, Taught):
        beside["teacher"] = TEACHER_BYTES * sum(p.numel() for p in model.teacher.parameters())
    activations = None if call is None else round(PEAK * kept_bytes(model, call))
    model = model.student if isinstance(model, Taught) else model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    states = TRAINED_BYTES * trained + FROZEN_BYTES * frozen
    return {
        "states": states,
        **beside,
        "activations": activations,
        "total": None if activations is None else states + sum(beside.values()) + activations,
    }


class Taught(nn.Module):
    """A student and its teacher, which nothing trains or averages."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher


def kept_bytes(model: nn.Module, call: Any) -> int:
    """Bytes of the storages that the graph of `call()` keeps, without those of the model."""
    own = {_address(tensor.untyped_storage()) for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if (address := _address(storage)) not in own:
            found[address] = storage  # held, so that no other storage takes its address
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for storage in found.values())


def _address(storage: torch.UntypedStorage) -> int:
    """Of the object, as a storage without memory has no other."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage]


def meta_step(config: TrainConfig) -> tuple[nn.Module, Any] | None:
    """The model without storage and a call of its forward pass on one batch (None: the frame size is unknown)."""
    method, data = config.method, config.data
    if isinstance(method, LatentMethod) and isinstance(data, LatentClipsConfig):
        return _world(method, data.batch)
    if isinstance(method, TrainPicturesConfig) and isinstance(data, PictureClipsConfig):
        return _pictures(method, data)
    if isinstance(method, DistillationConfig) and isinstance(data, LatentClipsConfig):
        return _student(method, data.batch)
    if isinstance(method, DecodeConfig) and isinstance(data, DreamClipsConfig):
        return _decoder(method, data)
    if isinstance(method, OutcomeConfig) and isinstance(data, OutcomeClipsConfig):
        return _outcome(method, data.batch)
    return _pixels(method, data) if isinstance(data, ClipsConfig) else None


def _built(method: Any) -> nn.Module:
    built = method.build()
    with torch.device("meta"):
        return built.build_model()


def _pixels(method: Any, data: ClipsConfig) -> tuple[nn.Module, Any]:
    """An autoencoder takes the whole step, with its losses and adversary; another network reads the clips."""
    if isinstance(method, AutoencodeConfig):
        method = method.replace(start=None)
    model = _built(method)
    try:
        index = load_index(data.path)
    except VidarError:
        return model, None
    video = torch.empty(data.batch, data.clip_frames, index.height, index.width, 3, dtype=torch.uint8, device="meta")
    if not isinstance(method, AutoencodeConfig):
        return model, lambda: model(video)
    sides = torch.zeros(data.batch, data.clip_frames)
    batch = Segment(video, sides[..., None], sides.bool(), torch.arange(data.batch), [""] * data.batch)
    rngs = [Rng(0, number) for number in range(data.batch)]
    autoencoder = cast(AnyAutoencoder | AdversarialPair, model)  # what its method builds
    return model, lambda: method.build().step(autoencoder, batch, rngs)


def _decoder(method: DecodeConfig, data: DreamClipsConfig) -> tuple[nn.Module, Any]:
    losses, kind = method.losses.build(), method.losses.tokenizer
    with torch.device("meta"):
        autoencoder = kind.build()
        autoencoder.encoder.requires_grad_(False)
        model = losses.judged(autoencoder)
    try:
        index = load_index(data.path)
    except VidarError:
        return model, None
    sides = (index.height, index.width)
    video = torch.empty(data.batch, 3, 1, *sides, device="meta")
    latent = (side // kind.space_stride for side in sides)
    raw = torch.empty(data.batch, kind.latent_channels, 1, *latent, device="meta")
    rngs = [Rng(0, number) for number in range(data.batch)]
    return model, lambda: losses.decoded(model, raw, video, rngs)


def _outcome(method: OutcomeConfig, batch: int) -> tuple[nn.Module, Any]:
    with torch.device("meta"):
        model = method.head.build()
        codes = torch.empty(batch, 2, method.head.rows * method.head.columns, method.head.channels)
        actions = torch.empty(batch, method.head.spec.width)
    return model, lambda: model(codes, actions)


def _world(method: LatentMethod, batch: int) -> tuple[nn.Module, Any]:
    method = method.replace(start=None)
    model, layout = _built(method), method.build().layout
    inputs = torch.empty(batch, layout.slots.site.shape[1], method.world.net.backbone.in_width, device="meta")
    values = torch.empty(batch, method.clip_frames, method.world.actions.width, device="meta")
    actions = Actions(values, torch.zeros(batch, method.clip_frames, dtype=torch.bool, device="meta"))
    return model, lambda: model(inputs, layout, actions)


def _student(method: DistillationConfig, batch: int) -> tuple[nn.Module, Any]:
    """Of a step, what keeps a graph: the one answers of student and critic and, through the teacher, the adversary."""
    plain: Any = method.replace(start=None)
    built, world = plain.build(), method.world
    pair: Distillation = built.pair
    with torch.device("meta"):
        tokenizer, known = world.tokenizer.build(), world.net.build().requires_grad_(False)
    pair.teacher = World(world, tokenizer, known)  # in the place of one that is read from a folder
    with torch.device("meta"):
        model: Any = built.build_model()
    model = model if isinstance(model, Student) else Student(model, None)
    layout, (height, width) = pair.clips.layout, world.sites
    codes = torch.zeros(batch, method.clip_frames, height * width, world.channels)
    actions, unknown = torch.zeros(batch, method.clip_frames, world.actions.width), torch.zeros(codes.shape[:2]).bool()
    clips = LatentBatch(codes, actions, unknown, torch.arange(batch), [""] * batch)
    rngs = [Rng(0, number) for number in range(batch)]
    levels = torch.full((batch, layout.num_rows), 0.5)
    real = noised(pair.clips, clips, rngs, levels)
    told = Actions(real.actions.values.to("meta"), real.actions.unknown.to("meta"))
    # weights stay: which slots are judged is read from them
    seen = replace(real, actions=told, **{name: getattr(real, name).to("meta") for name in ("seen", "asked", "clean")})

    def step() -> Any:
        made = seen.data(model.net)(seen.x, seen.slots(levels))
        followed = None if model.critic is None else seen.data(model.critic)(seen.x, seen.slots(levels))
        return made, followed, pair.adversarial(model, seen, made, rngs)

    return Taught(model, nn.ModuleList([known, tokenizer])), step


def _pictures(method: TrainPicturesConfig, data: PictureClipsConfig) -> tuple[nn.Module, Any]:
    """Captions count as long as they may be. Sequences too long for the table of who sees whom are not estimated."""
    method = method.replace(start=None)
    model, layout, pictures = _built(method), method.build().layout, method.pictures
    slots = layout.slots.site.shape[1]
    if slots > MOST_SLOTS:
        return model, None
    conditioner = pictures.net.conditioner
    shape = (data.batch,)
    if isinstance(conditioner, TextConfig):
        length = min(data.most, conditioner.encoder.most)
        shape = (data.batch, length) if pictures.reads_words else (data.batch, length, conditioner.encoder.width)
    kind = torch.float32 if len(shape) == 3 else torch.long
    told = torch.empty(shape, dtype=kind, device="meta")
    mask = torch.ones(shape[:2], dtype=torch.bool, device="cpu" if pictures.reads_words else "meta")
    conditions = pictures.conditions(told, mask, torch.zeros(data.batch, dtype=torch.bool, device="meta"))
    inputs = torch.empty(data.batch, slots, pictures.net.backbone.in_width, device="meta")
    return model, lambda: model(inputs, layout, conditions)


def check_memory(config: TrainConfig, device: torch.device) -> None:
    """Raises UsageError where the estimate is more than the device has left."""
    free = available(device)
    needed = training_bytes(config)["total"] if config.check_memory and free is not None else None
    if needed is not None and free is not None and needed > free:
        raise UsageError(
            f"training needs about {needed / 1e9:.1f} GB and {device} has {free / 1e9:.1f} GB left; take a smaller "
            "data.batch or preset (check_memory=false tries all the same)"
        )


def available(device: torch.device) -> int | None:
    """Bytes that can still be allocated, or None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None
    try:  # a container
        return min(free, int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # none, or "max"
        return free
