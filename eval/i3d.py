"""The features of FVD (Unterthiner et al. 2018): the 400 logits of I3D, from the TorchScript file of StyleGAN-V.

That file takes videos [B, 3, T, H, W] in 0..255, resizes them to 224 x 224 and scales them itself. It is not part of
vidar. Loading TorchScript runs the program in the file, so only a file that the user names is loaded.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.eval.extractors import LONGEST
from vidar.eval.local_weights import digest, existing
from vidar.types import VidarError

ARGUMENTS = ("rescale", "resize", "return_features")
FEWEST = 10  # frames; fewer do not survive the pooling over time
COLUMNS = 400


class I3D:
    """See the module. Raises VidarError if the file is no TorchScript archive with this signature and output."""

    dim, multiple, frames = COLUMNS, 1, (FEWEST, LONGEST)

    def __init__(self, file: str | Path, device: str = "cpu") -> None:
        path = existing(file)
        if not _is_script(path):
            raise VidarError(f"{file}: is not a TorchScript archive; FVD takes i3d_torchscript.pt of StyleGAN-V")
        self.name, self.device = f"i3d-{digest(path)}", device
        self.net = _load(path, device)
        given = [argument.name for argument in self.net.forward.schema.arguments]
        if missing := [name for name in ARGUMENTS if name not in given]:
            raise VidarError(f"{file}: its forward takes no {', '.join(missing)}; FVD takes i3d_torchscript.pt")
        try:
            found = self(np.zeros((1, FEWEST, 32, 32, 3), np.uint8))
        except RuntimeError as error:
            raise VidarError(f"{file}: cannot read a video [1, 3, {FEWEST}, 32, 32]: {_last(error)}") from None
        if found.shape != (1, COLUMNS):
            raise VidarError(f"{file}: returns {list(found.shape)} for one video, FVD takes its {COLUMNS} logits")

    @torch.inference_mode()
    def __call__(self, video: np.ndarray) -> np.ndarray:
        """See `Extractor`."""
        x = torch.from_numpy(np.ascontiguousarray(video)).to(self.device).float().permute(0, 4, 1, 2, 3).contiguous()
        found = self.net(x, rescale=True, resize=True, return_features=True)
        if not isinstance(found, Tensor):
            raise VidarError(f"{self.name}: returns a {type(found).__name__}, not one tensor of features")
        return found.float().cpu().numpy()


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _load(path: Path, device: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces a successor of TorchScript
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise VidarError(f"{path}: cannot be loaded as TorchScript: {_last(error)}") from None


def _last(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
