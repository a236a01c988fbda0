"""The table of features says what the code does: a yes is done, a no is refused with that reason."""

import pytest
import torch

from vidar.configs.catalog import find_system, recipes
from vidar.configs.features import CHECKS, KINDS, listing, table
from vidar.rng import Rng
from vidar.types import UsageError

TABLE = {one["feature"]: one for one in table()}


def model(kind):
    torch.manual_seed(0)
    return find_system(recipes()[KINDS[kind]](preset="tiny")).build()


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_played_is_and_the_rest_is_refused(kind):
    made = model(kind)
    if TABLE["play"][kind] != "yes":
        assert not hasattr(made, "rollout") or pytest.raises(UsageError, made.rollout)
        return
    rollout, config = made.rollout(2), made.config
    for row in range(2):
        codes = torch.randn(1, rollout.least(), config.sites[0] * config.sites[1], config.channels)
        rollout.open([row], codes, None, [Rng(1)])
        if not row:
            rollout.group(rest(rollout, rollout.due))  # rows with clocks of their own
    first = rollout.group(rest(rollout, rollout.due))
    seen = torch.cat([codes, first[1:]], 1)
    rollout.recache([1], seen, rest(rollout, seen.shape[1])[1:])
    assert torch.isfinite(rollout.group(rest(rollout, rollout.due))).all()


def rest(rollout, frames):
    return rollout.setting.rest.expand(2, frames, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_guided(kind):
    assert TABLE["guidance"][kind] == "yes"  # dreams of each: tests/world/test_guided_orders.py, test_pictures.py


def test_every_cell_is_yes_or_a_reason_and_all_are_listed():
    assert [*TABLE] == [check.__name__ for check in CHECKS] and len(TABLE) == 9
    cells = [one[kind] for one in TABLE.values() for kind in KINDS]
    assert all(cell == "yes" or (len(cell) > 20 and "\n" not in cell) for cell in cells)
    lines = list(listing([*TABLE.values()], 60))
    assert all(len(line) <= 63 for line in lines[:10]) and f"{cells.count('yes')} of 45" in lines[10]
