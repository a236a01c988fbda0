"""LPIPS against its package: GOLDEN are the numbers of lpips 0.1.4 on the weights and pictures of this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vidar.eval.lpips import ALEX, VGG, Lpips, Trunk
from vidar.types import UsageError, VidarError

GOLDEN = {"alex": (0.1155644878745079, 0.11752569675445557), "vgg": (0.0431663878262043, 0.04476657137274742)}
SLICES = {  # of the package: torchvision's numbers in each stage
    "alex": ((0,), (3,), (6,), (8,), (10,)),
    "vgg": ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
}
SIDES = {"alex": (11, 5, 3, 3, 3), "vgg": (3,) * 5}


def state(trunk: Trunk) -> dict[str, Tensor]:
    """The names of `lpips.LPIPS`, with weights that depend on the names alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    narrow = 3
    for stage, layers in enumerate(trunk.stages):
        side = SIDES[trunk.name][stage]
        for number, wide in layers:
            shapes[f"net.slice{stage + 1}.{number}.weight"] = (wide, narrow, side, side)
            shapes[f"net.slice{stage + 1}.{number}.bias"] = (wide,)
            narrow = wide
        shapes[f"lin{stage}.model.1.weight"] = (1, narrow, 1, 1)
    random, found = np.random.Generator(np.random.Philox(7)), {}
    for name in sorted(shapes):
        value = torch.from_numpy(0.2 * random.normal(size=shapes[name])).float()
        value = value / (np.prod(shapes[name][1:]) ** 0.5 if value.ndim > 1 else 1) * 5
        found[name] = value.abs() if name.startswith("lin") else value
    return found


def pictures() -> np.ndarray:
    return np.random.Generator(np.random.Philox(9)).integers(0, 256, (2, 2, 40, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("trunk", [ALEX, VGG], ids=["alex", "vgg"])
def test_the_numbers_are_those_of_the_package(trunk: Trunk, tmp_path: Path) -> None:
    """From one state, and from a trunk with torchvision's names beside the linear weights."""
    assert tuple(tuple(n for n, _ in stage) for stage in trunk.stages) == SLICES[trunk.name]
    weights, (a, b) = state(trunk), pictures()
    torch.save({**weights, "scaling_layer.shift": torch.zeros(1)}, tmp_path / "whole.pth")
    whole = Lpips([tmp_path / "whole.pth"])
    np.testing.assert_allclose(whole(a, b), GOLDEN[trunk.name], rtol=1e-4)
    np.testing.assert_allclose(whole(b, a), GOLDEN[trunk.name], rtol=1e-4)
    assert np.all(whole(a, a) == 0) and whole.name.startswith(f"lpips-{trunk.name}-")
    net = {f"features.{name.split('.', 2)[2]}": v for name, v in weights.items() if name.startswith("net.")}
    torch.save({**net, "classifier.1.weight": torch.zeros(2)}, tmp_path / "trunk.pth")
    torch.save({n: v for n, v in weights.items() if n.startswith("lin")}, tmp_path / "lin.pth")
    np.testing.assert_array_equal(Lpips([tmp_path / "trunk.pth", tmp_path / "lin.pth"])(a, b), whole(a, b))
    with pytest.raises(VidarError, match="trunk.pth: holds no linear weights"):
        Lpips([tmp_path / "trunk.pth"])
    with pytest.raises(VidarError, match="lin.pth: holds no AlexNet or VGG-16"):
        Lpips([tmp_path / "lin.pth"])


def test_pictures_that_do_not_suit_are_one_line(tmp_path: Path) -> None:
    """Unequal shapes, and sides that vanish in the pooling."""
    torch.save(state(ALEX), tmp_path / "a.pth")
    net, (a, b) = Lpips([tmp_path / "a.pth"]), pictures()
    assert net(a[:, :31, :31], b[:, :31, :31]).shape == (2,)
    with pytest.raises(UsageError, match="needs 31 pixels per side"):
        net(a[:, :30], b[:, :30])
    with pytest.raises(UsageError, match="differ in shape"):
        net(a, b[:1])
