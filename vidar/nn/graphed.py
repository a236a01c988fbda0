"""A function of static shapes as one CUDA graph, because small worlds are bound by the time of kernel launches.

CUDA graphs: NVIDIA CUDA Programming Guide, "CUDA Graphs"; captured as torch.cuda.graph documents it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], object]]]
WARM_UP = 3  # calls before a capture, as torch requires


def cuda_graph(run: Callable[[], Any]) -> tuple[Any, Callable[[], object]]:
    """Capture `run` on the current device. Returns its result and a function that recomputes it in the same memory."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = run()
    return made, graph.replay


class Graphed:
    """Builds functions for `StaticBackbone` that copy their arguments into the memory of a graph and replay it.

    capture: the function that captures, by default `cuda_graph`. The result of a call is a copy and not the graph's
    memory.
    """

    def __init__(self, capture: Capture = cuda_graph) -> None:
        self.capture = capture

    def __call__(self, module: nn.Module, example: tuple[Any, ...]) -> Callable[..., Any]:
        """The module for arguments in the shapes of `example`. Nothing in it may wait for the device."""
        held = tree_map(_own, example)
        made, replay = self.capture(lambda: module(*held))

        def function(*args: Any) -> Any:
            for mine, theirs in zip(tree_leaves(held), tree_leaves(args), strict=True):
                if isinstance(mine, Tensor):
                    mine.copy_(theirs)
            replay()
            return tree_map(_own, made)

        return function


def _own(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x
