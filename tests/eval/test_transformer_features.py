"""VideoMAE V2 and V-JEPA at a tiny size: the numbers of their own implementations, a slow version, wrong files.

GOLDEN: `VisionTransformer.forward_features` of cd-fvd 0.1.1, and the tokens and the pooler of the package vjepa 0.1.2,
which videojedi 1.1.0 uses, on the weights and videos of this file.
"""

from __future__ import annotations

import collections
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vidar.eval.transformer_features import ENCODER, PROBE, VideoMAE, VJepa
from vidar.eval.video_transformer import GIANT, HUGE, VideoTransformerConfig, sine_positions
from vidar.types import VidarError

MAE = VideoTransformerConfig(width=22, depth=2, heads=2, hidden=96, patch=14, side=28)
JEPA = VideoTransformerConfig(width=24, depth=2, heads=2, hidden=96, patch=16, side=32)
GOLDEN = {
    "mae": (
        [-0.24315716326236725, -0.9108608961105347, 1.3233113288879395, 2.147662401199341],
        [-0.12364407628774643, -0.8570330739021301, 1.1937859058380127, 2.1585209369659424],
    ),
    "mean": (
        [0.16951005160808563, 0.4234054386615753, 0.5231429934501648, -0.32869160175323486],
        [-0.20599845051765442, 0.270155131816864, 1.084773063659668, -0.20531919598579407],
    ),
    "probe": (
        [-0.8640499114990234, 0.7239629030227661, -1.7550228834152222, 0.5899136066436768],
        [-1.070178747177124, 0.18252146244049072, -1.3828054666519165, 0.824852466583252],
    ),
}


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that depend on the names alone."""
    random = np.random.Generator(np.random.Philox(7))
    found = {}
    for name in sorted(shapes):
        base = 1.0 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else 0.0
        found[name] = torch.from_numpy(base + 0.2 * random.normal(size=shapes[name])).float()
    return found


def video() -> np.ndarray:
    return np.random.Generator(np.random.Philox(8)).integers(0, 256, (2, 16, 20, 24, 3)).astype(np.uint8)


def pair(name: str, wide: int, narrow: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (wide, narrow), f"{name}.bias": (wide,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def backbone(config: VideoTransformerConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes that both published checkpoints share."""
    d = config.width
    shapes = {"patch_embed.proj.weight": (d, 3, 2, config.patch, config.patch), "patch_embed.proj.bias": (d,)}
    for n in range(config.depth):
        block = f"blocks.{n}"
        shapes |= {**norm(f"{block}.norm1", d), **norm(f"{block}.norm2", d), f"{block}.attn.qkv.weight": (3 * d, d)}
        shapes |= {**pair(f"{block}.attn.proj", d, d), **pair(f"{block}.mlp.fc1", config.hidden, d)}
        shapes |= pair(f"{block}.mlp.fc2", d, config.hidden)
    return shapes


def videomae() -> dict[str, Tensor]:
    d, shapes = MAE.width, backbone(MAE)
    for n in range(MAE.depth):
        shapes |= {f"blocks.{n}.attn.q_bias": (d,), f"blocks.{n}.attn.v_bias": (d,)}
    return draw({**shapes, **norm("fc_norm", d), **pair("head", 5, d)})


def vjepa() -> dict[str, Tensor]:
    d, shapes = JEPA.width, backbone(JEPA)
    shapes |= {f"blocks.{n}.attn.qkv.bias": (3 * d,) for n in range(JEPA.depth)}
    return draw({**shapes, **norm("norm", d), "pos_embed": (1, JEPA.tokens, d)})


def probe() -> dict[str, Tensor]:
    d, block = JEPA.width, "pooler.cross_attention_block"
    shapes = {"pooler.query_tokens": (1, 1, d), **norm(f"{block}.norm1", d), **norm(f"{block}.norm2", d)}
    shapes |= {**pair(f"{block}.xattn.q", d, d), **pair(f"{block}.xattn.kv", 2 * d, d)}
    shapes |= {**pair(f"{block}.xattn.proj", d, d), **pair(f"{block}.mlp.fc1", JEPA.hidden, d)}
    return draw({**shapes, **pair(f"{block}.mlp.fc2", d, JEPA.hidden), **pair("linear", 7, d)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """V-JEPA's two files, wrapped as they are published."""
    encoder = {f"module.backbone.{name}": value for name, value in vjepa().items()}
    torch.save({"target_encoder": encoder, "epoch": 3}, tmp_path / ENCODER)
    torch.save({"classifier": {f"module.{n}": v for n, v in probe().items()}, "epoch": 3}, tmp_path / PROBE)
    return tmp_path


def test_videomae_gives_the_numbers_of_cd_fvd(tmp_path: Path) -> None:
    """From a checkpoint of torch and from safetensors, which have the same features but not the same name."""
    torch.save({"model": videomae()}, tmp_path / "a.pth")
    save_file(videomae(), tmp_path / "a.safetensors")
    first, second = VideoMAE(tmp_path / "a.pth", config=MAE), VideoMAE(tmp_path / "a.safetensors", config=MAE)
    found = first(video())
    np.testing.assert_allclose(found[:, :4], GOLDEN["mae"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(second(video()), found)
    assert first.dim == 22 and first.frames == (16, 16) and first.name != second.name


def test_vjepa_gives_the_numbers_of_videojedi(folder: Path) -> None:
    """With the probe as published, and the mean of the tokens where only the encoder is given."""
    for path, kind in ((folder, "probe"), (folder / ENCODER, "mean")):
        net = VJepa(path, config=JEPA)
        np.testing.assert_allclose(net(video())[:, :4], GOLDEN[kind], rtol=1e-4, atol=1e-5)
        assert net.name.startswith(f"vjepa-{kind}-") and net.dim == 24


def slow_tokens(w: dict[str, Tensor], x: np.ndarray, config: VideoTransformerConfig) -> np.ndarray:
    """One video [3, T, side, side] -> tokens [N, D], token by token in float64 numpy."""
    a, p = {k: v.double().numpy() for k, v in w.items()}, config.patch
    cuts = range(0, config.side, p)
    tokens = np.stack(
        [
            np.einsum("dcthw,cthw->d", a["patch_embed.proj.weight"], x[:, t : t + 2, i : i + p, j : j + p])
            for t in range(0, config.frames, 2)
            for i in cuts
            for j in cuts
        ]
    )
    tokens = tokens + a["patch_embed.proj.bias"] + a["pos_embed"][0]
    width = config.width // config.heads

    def normed(z: np.ndarray, name: str) -> np.ndarray:
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-6)
        return z * a[f"{name}.weight"] + a[f"{name}.bias"]

    for n in range(config.depth):
        b = f"blocks.{n}"
        q, k, v = np.split(normed(tokens, f"{b}.norm1") @ a[f"{b}.attn.qkv.weight"].T + a[f"{b}.attn.qkv.bias"], 3, 1)
        read = np.zeros_like(tokens)
        for head in range(config.heads):
            part = slice(head * width, (head + 1) * width)
            for row in range(len(tokens)):
                score = np.exp(k[:, part] @ q[row, part] / math.sqrt(width))
                read[row, part] = score @ v[:, part] / score.sum()
        tokens = tokens + read @ a[f"{b}.attn.proj.weight"].T + a[f"{b}.attn.proj.bias"]
        z = normed(tokens, f"{b}.norm2") @ a[f"{b}.mlp.fc1.weight"].T + a[f"{b}.mlp.fc1.bias"]
        z = z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
        tokens = tokens + z @ a[f"{b}.mlp.fc2.weight"].T + a[f"{b}.mlp.fc2.bias"]
    return tokens


def test_the_network_is_the_slow_one() -> None:
    """Token by token and head by head."""
    net = JEPA.build()
    net.load_state_dict(vjepa())
    x = torch.randn(1, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net(x)[0].numpy()
    np.testing.assert_allclose(found, slow_tokens(vjepa(), x[0].double().numpy(), JEPA), rtol=1e-3, atol=1e-4)


def test_positions_are_those_of_attention_is_all_you_need() -> None:
    """Pairs of sine and cosine of the position, at wavelengths from 2 pi to 10000 times that."""
    table = sine_positions(50, 8)[0].double()
    for position, column in ((0, 0), (3, 0), (7, 1), (49, 6), (11, 5)):
        angle = position / 10000 ** (2 * (column // 2) / 8)
        assert float(table[position, column]) == pytest.approx((math.cos if column % 2 else math.sin)(angle), abs=1e-6)


def test_sizes_are_the_published_ones() -> None:
    """Tokens and weights of ViT-g/14 and ViT-H/16: cd-fvd's 1,011,855,918 less its classifier, vjepa's 633,655,040."""
    with torch.device("meta"):
        giant, huge = (sum(p.numel() for p in config.build().parameters()) for config in (GIANT, HUGE))
    keys, positions = 40 * 1408, 2048 * 1408
    assert GIANT.tokens == 2048 and HUGE.tokens == 1568
    assert giant - keys - positions == 1_011_855_918 - 174 * 1409
    assert huge == 633_655_040


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.1.mlp.fc2.bias"), "blocks.1.mlp.fc2.bias is missing"),
        (lambda w: w.update({"blocks.2.norm1.bias": torch.zeros(22)}), "blocks.2.norm1.bias is not wanted"),
        (lambda w: w.update({"fc_norm.bias": torch.zeros(23)}), r"norm.bias has shape \[23\], not \[22\]"),
        (lambda w: w.clear(), "is missing"),
    ],
)
def test_weights_of_another_network_are_one_line(tmp_path: Path, change, message: str) -> None:
    """The first name or shape that differs."""
    weights = videomae()
    change(weights)
    torch.save({"module": weights}, tmp_path / "a.pth")
    with pytest.raises(VidarError, match=rf"a.pth: is not a VideoTransformer of this size: .*{message}"):
        VideoMAE(tmp_path / "a.pth", config=MAE)


def test_nothing_but_tensors_is_unpickled(tmp_path: Path, folder: Path) -> None:
    """A checkpoint with other objects, a file that is none, a missing or empty probe."""
    torch.save({"model": videomae(), "args": collections.UserDict(a=1)}, tmp_path / "args.pth")
    with pytest.raises(VidarError, match="args.pth: holds more than tensors"):
        VideoMAE(tmp_path / "args.pth", config=MAE)
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(VidarError, match="no readable file of weights"):
        VideoMAE(tmp_path / "text.safetensors", config=MAE)
    torch.save({"classifier": {"module.linear.bias": torch.zeros(7)}}, folder / PROBE)
    with pytest.raises(VidarError, match="holds no pooler"):
        VJepa(folder, config=JEPA)
    (folder / PROBE).unlink()
    with pytest.raises(VidarError, match="no such file of weights"):
        VJepa(folder, config=JEPA)
