"""LPIPS (Zhang et al. 2018, eq. 1; version 0.1 of its package): distance of pictures in features of AlexNet or VGG-16.

Weights come from files of the user: the state of `lpips.LPIPS`, or a torchvision AlexNet or VGG-16 together with the
small file of linear weights that is part of the package `lpips`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidar.eval.local_weights import digest, read_weights, tensors_of
from vidar.types import UsageError, VidarError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]
TINY = 1e-10  # added to the length of a feature vector


@dataclass(frozen=True)
class Trunk:
    """A convolutional network: (number in torchvision's `features`, output channels) of the convolutions of each stage.

    A stage begins with max pooling (`pool` pixels wide, every second), except the first; its last ReLU is compared.
    """

    name: str
    stages: tuple[tuple[tuple[int, int], ...], ...]
    pool: int
    first: tuple[int, int]  # stride and padding of the first convolution
    least: int  # pixels per side of the smallest picture


ALEX = Trunk("alex", (((0, 64),), ((3, 192),), ((6, 384),), ((8, 256),), ((10, 256),)), 3, (4, 2), 31)
VGG = Trunk(
    "vgg",
    (
        ((0, 64), (2, 64)),
        ((5, 128), (7, 128)),
        ((10, 256), (12, 256), (14, 256)),
        ((17, 512), (19, 512), (21, 512)),
        ((24, 512), (26, 512), (28, 512)),
    ),
    2,
    (1, 1),
    16,
)
UNPOOLED = {"alex": (0, 3, 4), "vgg": (0,)}  # stages without pooling before them


class Lpips:
    """files: see the module. Raises VidarError if they do not hold the weights of one of the two networks."""

    def __init__(self, files: Sequence[str | Path], device: str = "cpu") -> None:
        found: dict[str, Tensor] = {}
        for file in files:
            found |= {_plain(name): value for name, value in tensors_of(read_weights(file), ("state_dict",)).items()}
        told = " and ".join(str(file) for file in files)
        self.trunk = next((one for one in (ALEX, VGG) if _fits(one, found)), None) or _refuse(told, found)
        self.name, self.device = f"lpips-{self.trunk.name}-{digest(*files)}", device
        self.weights = {name: value.to(device) for name, value in found.items()}

    @torch.inference_mode()
    def __call__(self, video: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """uint8 [T, H, W, 3] twice -> float64 [T], the distance of each frame.

        Raises UsageError for unequal shapes or pictures that are too small.
        """
        if video.shape != reference.shape or video.ndim != 4:
            raise UsageError(f"video {list(video.shape)} and reference {list(reference.shape)} differ in shape")
        if min(video.shape[1:3]) < self.trunk.least:
            raise UsageError(f"{self.name} needs {self.trunk.least} pixels per side, got {list(video.shape[1:3])}")
        frames = [self._distance(_picture(a), _picture(b)) for a, b in zip(video, reference)]
        return torch.cat(frames).double().cpu().numpy()

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        """[1, 3, H, W] in [-1, 1] twice -> [1]."""
        total = torch.zeros(1, device=self.device)
        for stage, (x, y) in enumerate(zip(self._stages(a), self._stages(b), strict=True)):
            x, y = (z / (z.square().sum(1, keepdim=True).sqrt() + TINY) for z in (x, y))
            total = total + F.conv2d((x - y).square(), self.weights[f"lin{stage}"]).mean((1, 2, 3))
        return total

    def _stages(self, picture: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (SHIFT, SCALE))
        x, found = (picture.to(self.device) - shift) / scale, list[Tensor]()
        for stage, layers in enumerate(self.trunk.stages):
            if stage not in UNPOOLED[self.trunk.name]:
                x = F.max_pool2d(x, self.trunk.pool, 2)
            for number, _ in layers:
                weight = self.weights[f"{number}.weight"]
                stride, padding = self.trunk.first if number == 0 else (1, weight.shape[-1] // 2)
                x = F.relu(F.conv2d(x, weight, self.weights[f"{number}.bias"], stride, padding))
            found.append(x)
        return found


def _picture(frame: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> [1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frame)).float().permute(2, 0, 1)[None] / 127.5 - 1


def _plain(name: str) -> str:
    """The names of torchvision and of the package -> "3.weight", "lin0"; others stay."""
    name = re.sub(r"^(features|net\.slice\d+)\.", "", name)
    found = re.fullmatch(r"lins?\.?(\d)\.model\.1\.weight", name)
    return f"lin{found[1]}" if found else name


def _fits(trunk: Trunk, found: dict[str, Tensor]) -> bool:
    """Whether all weights are there, in the right shapes."""
    narrow, side = 3, {"alex": (11, 5, 3, 3, 3)}.get(trunk.name, (3,) * 5)
    for stage, layers in enumerate(trunk.stages):
        for number, wide in layers:
            wanted = {f"{number}.weight": (wide, narrow, side[stage], side[stage]), f"{number}.bias": (wide,)}
            wanted[f"lin{stage}"] = (1, layers[-1][1], 1, 1)
            if any(name not in found or tuple(found[name].shape) != shape for name, shape in wanted.items()):
                return False
            narrow = wide
    return True


def _refuse(told: str, found: dict[str, Tensor]) -> Trunk:
    lacks = "linear weights (lin0 ..)" if "lin0" not in found else "AlexNet or VGG-16"
    raise VidarError(
        f"{told}: holds no {lacks}; give the state of lpips.LPIPS, or a torchvision AlexNet or VGG-16 and the "
        "package's weights/v0.1/alex.pth or vgg.pth, separated by a comma"
    )
