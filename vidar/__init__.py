"""vidar: autoregressive video generation and world models."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
DISTRIBUTION = "vidar-world"  # the name on the package index; messages that name an extra use it

_LAZY = {
    "load": "vidar.model.load",
    "VideoModel": "vidar.model.model",
    "fit": "vidar.train.fit",
    "record": "vidar.data.record",
}
__all__ = ["DISTRIBUTION", "__version__"]
__all__.extend(_LAZY)  # pyright: ignore[reportUnsupportedDunderAll]  # see __getattr__

import_module("vidar.play.registration")  # `import vidar` knows Vidar/World-v0


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vidar' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
