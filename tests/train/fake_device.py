"""A device that is not the CPU, for machines that have none: it says `cuda:0`, computes on the CPU and refuses a mix.

Within `fake_cuda()` what is made on or moved to a device `cuda` is an `OnCuda`, a wrapper around a tensor of the CPU.
It raises what torch raises on a GPU where an operand lies on the CPU; its numbers are those of the CPU, bit for bit.
torch's FakeTensorMode does not do, as it has no numbers.
"""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
INDICES = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
TAKES_BOTH = ("aten::copy_", "aten::_to_copy")
TAKES_INDICES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
TAKES_SCALARS = (*TAKES_INDICES, "aten::where", "aten::fill_")
GRADIENTS = (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad)


class OnCuda(torch.Tensor):
    """`on_cpu` holds the numbers. What a view or a change in place does to them is seen by all, as anywhere."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device, is_cuda, is_cpu = property(lambda self: CUDA), property(lambda self: True), property(lambda self: False)

    @staticmethod
    def __new__(cls, on_cpu):
        shape = {"strides": on_cpu.stride(), "storage_offset": on_cpu.storage_offset(), "dtype": on_cpu.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, on_cpu.size(), **shape)
        made.on_cpu = on_cpu
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        check(func, args, kwargs or {})
        known = {}

        def inside(x):
            known[id(x.on_cpu)] = x
            return x.on_cpu

        numbers = each(lambda x: inside(x) if type(x) is OnCuda else x, (args, kwargs or {}))
        # what was changed in place comes back as what it was
        return each(lambda x: known.get(id(x)) if id(x) in known else OnCuda(x), func(*numbers[0], **numbers[1]))

    def __repr__(self):
        return f"{self.on_cpu!r} on {CUDA}"

    def tolist(self):
        return self.on_cpu.tolist()

    def untyped_storage(self):
        return self.on_cpu.untyped_storage()

    def numpy(self, *, force=False):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")


def check(func, args, kwargs):
    """Raises where operands of a call lie on two devices and a GPU would not take them."""
    name = func._schema.name
    if name in TAKES_INDICES:
        if type(args[0]) is not OnCuda:
            raise RuntimeError(INDICES)
        args = (args[0], *args[2:])
    strange = [x for x in among((*args, *kwargs.values())) if type(x) is not OnCuda]
    scalars = torch.Tag.pointwise in func.tags or name in TAKES_SCALARS
    if strange and name not in TAKES_BOTH and not (scalars and all(x.ndim == 0 for x in strange)):
        raise RuntimeError(f"{MIXED} ({func})")


def each(change, x):
    """Tensors in lists, tuples and dictionaries changed."""
    if isinstance(x, torch.Tensor):
        return change(x)
    if isinstance(x, dict):
        return {key: each(change, value) for key, value in x.items()}
    return type(x)(each(change, value) for value in x) if type(x) in (list, tuple) else x


def among(x):
    """The tensors of a list, and of lists in it."""
    return [t for value in x for t in ([value] if isinstance(value, torch.Tensor) else lists(value))]


def lists(x):
    return among(x) if isinstance(x, (list, tuple)) else []


class Move(torch.autograd.Function):
    """To the other device; the gradient goes back."""

    @staticmethod
    def forward(ctx, x):
        return x.on_cpu.clone() if type(x) is OnCuda else OnCuda(x.detach().clone())

    @staticmethod
    def backward(ctx, grad):
        return Move.apply(grad)


def moved(x, device):
    """A tensor on a device, itself where it is there; other devices than these two are as they are."""
    return Move.apply(x) if {x.device.type, device.type} == {"cpu", "cuda"} else x


class Gradients(TorchDispatchMode):
    """In a backward pass torch makes zeros of its own where the gradient is."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        return made if among((*args, *(kwargs or {}).values())) else each(OnCuda, made)


class Devices(TorchFunctionMode):
    """Takes the calls that name a device or move something to one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu, torch.Tensor.type_as):
            return self.move(func, *args, **kwargs)
        if func in GRADIENTS and any(type(x) is OnCuda for x in among(args)):
            with Gradients():
                return func(*args, **kwargs)
        device = kwargs.get("device", args[0].device if func is torch.Tensor.new_tensor else None)
        if device is None or func is torch._C._nn._parse_to or torch.device(device).type not in ("cpu", "cuda"):
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": CPU})
        return moved(made, torch.device(device)) if isinstance(made, torch.Tensor) else made

    @staticmethod
    def move(func, x, *args, copy=False, **kwargs):
        if func is not torch.Tensor.to:
            args = {torch.Tensor.cuda: (CUDA,), torch.Tensor.cpu: (CPU,)}.get(func, args)
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        there = x if device is None else moved(x, device)
        there = there.clone() if copy and there is x else there
        return torch.Tensor.to(there, dtype=dtype or there.dtype, memory_format=layout or torch.preserve_format)


class Autocast(torch.autocast):
    """That of the CPU, which computes."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def enter(mode):
    """Of `torch.inference_mode`, which takes no wrappers: no gradients, and nothing else."""
    mode.before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(mode.before and not mode.mode)


def leave(mode, *_):
    torch._C._set_grad_enabled(mode.before)


@contextmanager
def fake_cuda():
    """Within it `cuda` is a device."""
    plain = patch.multiple(torch.inference_mode, __enter__=enter, __exit__=leave)
    state = torch.zeros(16, dtype=torch.uint8)
    there = {
        "current_device": lambda: 0,
        "manual_seed": lambda seed: None,
        "get_rng_state": lambda device=0: state,
        "set_rng_state": lambda state, device=0: None,
        "mem_get_info": lambda device=0: (1 << 40, 1 << 40),
    }
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a wrapper cannot be the data of a parameter
    try:
        with patch.multiple(torch.cuda, **there), patch.object(torch, "autocast", Autocast), plain, Devices():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
