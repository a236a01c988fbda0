"""A device that is not the CPU, for machines that have none: it says `cuda:0`, computes on the CPU and refuses a mix.

`with fake_cuda():` every tensor that is made on or moved to a device `cuda` is an `OnCuda`, a wrapper around a CPU
tensor. Whatever meets an operand on the CPU raises what torch raises on a GPU; numbers are those of the CPU, bit for
bit. torch's FakeTensorMode does not do: it has no numbers.
"""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

CUDA = torch.device("cuda:0")
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
INDEX = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
TAKES_BOTH = ("aten::copy_", "aten::_to_copy", "aten::is_same_size", "aten::_has_same_storage_numel", "aten::set_")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class OnCuda(torch.Tensor):
    """A tensor that says it is on `cuda:0`; `on_cpu` holds its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda, is_cpu = property(lambda self: True), property(lambda self: False)

    @staticmethod
    def __new__(cls, on_cpu):
        made = torch.Tensor._make_wrapper_subclass(
            cls, on_cpu.size(), strides=on_cpu.stride(), storage_offset=on_cpu.storage_offset(), dtype=on_cpu.dtype
        )
        made.on_cpu = on_cpu
        return made

    def __repr__(self):
        return f"{self.on_cpu!r} on {CUDA}"

    def tolist(self):
        return self.on_cpu.tolist()

    def untyped_storage(self):
        return self.on_cpu.untyped_storage()

    def numpy(self, *, force=False):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        check(func, args, kwargs)
        given = {}

        def inner(x):
            given[id(x.on_cpu)] = x
            return x.on_cpu

        out = func(*tree_map_only(OnCuda, inner, args), **tree_map_only(OnCuda, inner, kwargs))
        # what was changed in place comes back as itself
        return tree_map_only(torch.Tensor, lambda x: given.get(id(x)) if id(x) in given else OnCuda(x), out)


def among(args):
    """Tensors of the arguments of a call and of lists in them."""
    for x in args:
        if isinstance(x, torch.Tensor):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from among(x)


def check(func, args, kwargs):
    """Raises where operands of one call lie on two devices and a GPU would not take them."""
    name, tensors = func._schema.name, among((*args, *kwargs.values()))
    strange = [x for x in tensors if not isinstance(x, OnCuda)]
    if name in INDEXING:
        if not isinstance(args[0], OnCuda):
            raise RuntimeError(INDEX)
        values = args[2:3] if len(args) > 2 else ()
        strange = [x for x in values if not isinstance(x, OnCuda)]
    if name in TAKES_BOTH or not strange:
        return
    scalars = torch.Tag.pointwise in func.tags or name in INDEXING or name in ("aten::where", "aten::fill_")
    if not (scalars and all(x.ndim == 0 for x in strange)):
        raise RuntimeError(f"{MIXED} (in {func})")


class Move(torch.autograd.Function):
    """From one device to the other; a gradient goes back."""

    @staticmethod
    def forward(ctx, x):
        return x.on_cpu.clone() if isinstance(x, OnCuda) else OnCuda(x.detach().clone())

    @staticmethod
    def backward(ctx, grad):
        return moved(grad, torch.device("cpu") if isinstance(grad, OnCuda) else CUDA)


def moved(x, device):
    """A tensor on a device, itself where it is there."""
    known = device.type in ("cpu", "cuda")
    return Move.apply(x) if known and x.device.type in ("cpu", "cuda") and device.type != x.device.type else x


class Inside(TorchDispatchMode):
    """What torch makes anew within a call on tensors of the device is there too, as it is in a backward pass."""

    on = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if self.on and not any(True for _ in among((*args, *(kwargs or {}).values()))):
            return tree_map_only(torch.Tensor, OnCuda, made)
        return made


class Cuda(TorchFunctionMode):
    """Takes calls that name a device."""

    def __init__(self, inside):
        self.inside = inside

    def __torch_function__(self, func, types, args=(), kwargs=None):
        before = self.inside.on
        self.inside.on = before or any(type(x) is OnCuda for x in among(args))
        try:
            return self.call(func, args, dict(kwargs or {}))
        finally:
            self.inside.on = before

    def call(self, func, args, kwargs):
        if func in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu, torch.Tensor.type_as):
            return self.move(func, *args, **kwargs)
        device = kwargs.get("device")
        if device is None and func is torch.Tensor.new_tensor:
            device = args[0].device
        if device is None or func is torch._C._nn._parse_to or torch.device(device).type not in ("cpu", "cuda"):
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": torch.device("cpu")})
        return moved(made, torch.device(device)) if isinstance(made, torch.Tensor) else made

    @staticmethod
    def move(func, x, *args, **kwargs):
        if func is torch.Tensor.cuda:
            return moved(x, CUDA)
        if func is torch.Tensor.cpu:
            return moved(x, torch.device("cpu"))
        if func is torch.Tensor.type_as or (args and isinstance(args[0], torch.Tensor)):
            args, kwargs = (args[0].device, args[0].dtype, *args[1:]), kwargs
        copy = kwargs.pop("copy", False)
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        there = x if device is None else moved(x, device)
        there = there.clone() if copy and there is x else there
        return torch.Tensor.to(there, dtype=dtype or there.dtype, memory_format=layout or torch.preserve_format)


@contextmanager
def fake_cuda():
    """Within it, `cuda` is a device."""
    state = torch.zeros(16, dtype=torch.uint8)
    there = {
        "current_device": lambda: 0,
        "manual_seed": lambda seed: None,
        "get_rng_state": lambda device=0: state,
        "set_rng_state": lambda state, device=0: None,
        "synchronize": lambda device=None: None,
    }
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a wrapper cannot be the data of a parameter
    try:
        with patch.multiple(torch.cuda, **there), patch.object(torch, "autocast", Autocast):
            inside = Inside()
            with inside, Cuda(inside):
                yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


class Autocast(torch.autocast):
    """That of the CPU, which computes."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)
