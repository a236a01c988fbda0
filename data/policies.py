"""Recording policies by name."""

from __future__ import annotations

from vidar.data.circuits import CircuitsPolicyConfig
from vidar.data.explore import ActionPolicy, ExplorePolicyConfig, HoldPolicyConfig
from vidar.data.mixture import MixturePolicyConfig
from vidar.types import UsageError

POLICIES = {
    "explore": ExplorePolicyConfig(),
    "mixture": MixturePolicyConfig(),
    "blind": ExplorePolicyConfig(blind=True),
    "hold": HoldPolicyConfig(),
    "circuits": CircuitsPolicyConfig(),
}


def named_policy(name: str) -> ActionPolicy:
    """A policy by its name in POLICIES. Raises UsageError for another name."""
    if name not in POLICIES:
        raise UsageError(f"no policy {name!r}; valid: {', '.join(POLICIES)}")
    return POLICIES[name].build()
