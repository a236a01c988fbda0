"""Which number format a device multiplies fastest, and with which instructions."""

from __future__ import annotations

import torch


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 on a GPU and on a CPU with instructions for it (AMX, AVX-512 BF16), else float32.

    oneDNN accepts bfloat16 on any CPU with AVX-512 but emulates it there, four times slower than float32.
    """
    if device != "cpu":
        return torch.bfloat16
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if can.get("amx_bf16") or can.get("avx512_bf16") else torch.float32


def has_tiles() -> bool:
    """Whether the CPU multiplies tiles of bfloat16 (AMX); torch's own attention is native only there.

    With AVX-512 BF16 alone, linear maps are native but torch's attention is no faster than in float32.
    """
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_tile") and can.get("amx_bf16"))
