"""The protocol of record of FVD on a real TorchScript module with its signature, and files that are something else."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidar.eval.extractors import check_clip
from vidar.eval.i3d import I3D
from vidar.eval.video_distance import extractor
from vidar.types import UsageError, VidarError

pytestmark = pytest.mark.filterwarnings("ignore")


class Detector(nn.Module):
    """The calling convention of StyleGAN-V's i3d_torchscript.pt around a linear map of the pooled video."""

    def __init__(self, columns: int = 400) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 5 * 4 * 4, columns)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        b, c, t, h, w = x.shape
        if resize:
            x = x.transpose(1, 2).reshape(b * t, c, h, w)
            x = F.interpolate(x, size=[224, 224], mode="bilinear", align_corners=False)
            x = x.reshape(b, t, c, 224, 224).transpose(1, 2)
        if rescale:
            x = 2 * x / 255 - 1
        found = self.head(F.adaptive_avg_pool3d(x, [5, 4, 4]).flatten(1))
        return found if return_features else found.softmax(1)


class Plain(nn.Module):
    """A module with another signature."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class Pair(nn.Module):
    """The right arguments, but two outputs."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> tuple[Tensor, Tensor]:
        return x, x


def script(module: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(file))
    return file


def test_features_are_the_logits_of_videos_from_0_to_255(tmp_path: Path) -> None:
    """Equal to the module in Python, called as StyleGAN-V does; the name follows the content of the file."""
    torch.manual_seed(0)
    module = Detector().eval()
    net = extractor(f"i3d={script(module, tmp_path / 'i3d.pt')}")
    video = np.random.Generator(np.random.Philox(0)).integers(0, 256, (3, 16, 20, 30, 3)).astype(np.uint8)
    x = torch.from_numpy(video).permute(0, 4, 1, 2, 3).float()
    with torch.no_grad():
        want = module(x, rescale=True, resize=True, return_features=True).numpy()
    np.testing.assert_allclose(net(video), want, rtol=1e-4, atol=1e-5)
    assert net.dim == 400 and net(video).dtype == np.float32
    torch.manual_seed(1)
    other = I3D(script(Detector(), tmp_path / "other.pt"))
    assert net.name != other.name and net.name.startswith("i3d-") and len(net.name) == 12
    with pytest.raises(UsageError, match="takes clips of at least 10 frames, not 9"):
        check_clip(net, 9, (20, 30))


def test_other_files_are_one_line(tmp_path: Path) -> None:
    """Weights, another signature, another number of outputs, two outputs, a cut file, none."""
    torch.save(Detector().state_dict(), tmp_path / "weights.pt")
    whole = script(Detector(), tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for file, message in (
        (tmp_path / "absent.pt", "no such file of weights"),
        (tmp_path / "weights.pt", "is not a TorchScript archive"),
        (tmp_path / "cut.pt", "is not a TorchScript archive"),
        (script(Plain(), tmp_path / "plain.pt"), "takes no rescale, resize, return_features"),
        (script(Detector(174), tmp_path / "174.pt"), r"returns \[1, 174\] for one video, FVD takes its 400 logits"),
        (script(Pair(), tmp_path / "pair.pt"), "returns a tuple, not one tensor"),
    ):
        with pytest.raises(VidarError, match=message) as caught:
            I3D(file)
        assert "\n" not in str(caught.value)
