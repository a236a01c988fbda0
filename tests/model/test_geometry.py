"""The memory that is geometry: closed forms of what is shown, and a player who stands still, turns and walks."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from vidar.cache.points import CELL, Drawn, PointsConfig
from vidar.model.geometry import MARKS, Geometry, GeometryConfig, Place, filled, marked
from vidar.nn.depth import DepthNetConfig
from vidar.nn.walk import WalkNetConfig
from vidar.tokenizers.patch import to_sites
from vidar.types import UsageError

CONFIG = GeometryConfig(
    points=PointsConfig(height=32, width=48, view=86.3),
    depth=DepthNetConfig(height=32, width=48, widths=(8, 8)),
    walk=WalkNetConfig(actions=2, past=3, rays=8, hidden=8),
    patch=2,
)
NOISE = torch.randint(0, 256, (6, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TURN, NOTHING = torch.tensor([1.0, 0.0]), torch.zeros(2)


class Means:
    """A codec whose latents are the mean colours of cells."""

    looks_back = False

    def encode(self, video: Tensor) -> Tensor:
        means = torch.nn.functional.avg_pool2d(video[:, 0].permute(0, 3, 1, 2).float(), CELL)
        return to_sites(means[:, :, None], CONFIG.patch)[:, None]  # [B, 1, n, 12]


def still(turn: float = 0.0) -> Geometry:
    """A memory whose depth is 80 everywhere, and whose player turns by so much in every step and else stands."""
    torch.manual_seed(0)
    memory = CONFIG.build()
    for layer in (memory.walk.layers[-1], memory.depth.out):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        memory.walk.layers[-1].bias[0] = turn / CONFIG.walk.scale[0]
    return memory


def drawn(seen: Tensor, depth: float = 32.0, grain: float = 1.0) -> Drawn:
    """A drawing that is seen in some pixels."""
    colour = torch.where(seen[..., None], 200, 0).expand(*seen.shape, 3).to(torch.uint8)
    return Drawn(colour, seen, torch.where(seen, depth, 0.0), torch.where(seen, grain, torch.inf), (), seen)


def test_what_is_seen_stays_as_it_is() -> None:
    picture, seen = NOISE[0], torch.rand(32, 48, generator=torch.Generator().manual_seed(1)) < 0.5
    made = filled(torch.where(seen[..., None], picture, 0), seen)
    assert torch.equal(made[seen], picture[seen])
    everything = torch.ones(32, 48, dtype=torch.bool)
    assert torch.equal(filled(picture, everything), picture)


def test_a_hole_has_the_mean_of_what_is_seen_in_the_smallest_block_around_it() -> None:
    """By hand for each hole: blocks of 2 to 16 pixels, and the whole picture where these are empty."""
    seen = torch.zeros(32, 48, dtype=torch.bool)
    for row, column in ((3, 3), (2, 9), (12, 20), (13, 21), (30, 46)):
        seen[row, column] = True
    picture = NOISE[1].float()
    made = filled(torch.where(seen[..., None], NOISE[1], 0), seen).float()
    whole = picture[seen].mean(0)
    for row, column in ((2, 2), (0, 0), (0, 12), (12, 21), (15, 23), (31, 47), (20, 4)):
        want = whole
        for block in (2, 4, 8, 16):
            top, left = row // block * block, column // block * block
            part = slice(top, top + block), slice(left, left + block)
            if seen[part].any():
                want = picture[part][seen[part]].mean(0)
                break
        torch.testing.assert_close(made[row, column], want, rtol=0, atol=0.51)


def test_holes_have_only_colours_between_those_that_are_seen() -> None:
    seen = torch.rand(32, 48, generator=torch.Generator().manual_seed(2)) < 0.05
    picture = NOISE[2]
    made = filled(torch.where(seen[..., None], picture, 0), seen)
    low, high = picture[seen].amin(0), picture[seen].amax(0)
    assert (made >= low).all() and (made <= high).all()


def test_a_picture_of_nothing_is_one_colour() -> None:
    made = filled(torch.zeros(32, 48, 3, dtype=torch.uint8), torch.zeros(32, 48, dtype=torch.bool))
    assert (made == made[0, 0]).all()


def test_marks_of_a_whole_view() -> None:
    """Share 1, the logarithm of depth, and the grain as it is, up to 4."""
    for grain, told in ((1.0, 1.0), (2.5, 2.5), (9.0, 4.0)):
        marks = marked(drawn(torch.ones(16, 24, dtype=torch.bool), 64.0, grain))
        want = torch.tensor([1.0, math.log(3), told])[:, None, None].expand(MARKS, 2, 3)
        torch.testing.assert_close(marks, want, rtol=1e-6, atol=1e-6)


def test_marks_of_nothing_are_zero() -> None:
    assert not marked(drawn(torch.zeros(16, 24, dtype=torch.bool))).any()


def test_marks_of_half_a_cell() -> None:
    """Half is seen; mean depth is that of what is seen, and what is not seen has no grain."""
    seen = torch.zeros(16, 24, dtype=torch.bool)
    seen[:4, :8] = True
    marks = marked(drawn(seen, 32.0, 2.0))
    torch.testing.assert_close(marks[:, 0, 0], torch.tensor([0.5, math.log(2), 1.0]), rtol=1e-5, atol=1e-5)
    assert not marks[:, 1].any() and not marks[:, :, 1:].any()


def test_standing_still_keeps_the_pose_and_draws_the_start() -> None:
    """To the bit, for as long as one likes, whatever keys are held and whatever is dreamed meanwhile."""
    memory = still()
    place = memory.start(NOISE[:1], None)
    for picture in NOISE[1:]:
        place = memory.ahead(place, TURN)
        assert torch.equal(place.pose, torch.tensor([0.0, 0.0, 0.0, 90.0]))
        assert place.drawn.seen.all() and torch.equal(place.drawn.colour, NOISE[0])
        place = memory.keep(place, picture)
    assert len(place.points.keyframes) == 1


def test_a_turn_away_and_back_shows_what_was_seen() -> None:
    """Six steps of 60 degrees are a whole turn; what is seen on the way are other pictures."""
    memory = still(60.0)
    place = memory.start(NOISE[:1], None)
    for step in range(6):
        place = memory.ahead(place, TURN)
        assert float(place.pose[3]) == pytest.approx(90 + 60 * (step + 1), abs=1e-3)
        off = (place.drawn.colour != NOISE[0]).any(-1).float().mean()
        assert off > 0.9 if step < 5 else off < 0.1  # pixels at an edge may be rounded to their neighbours
        place = memory.keep(place, NOISE[min(step + 1, 5)])
    assert place.drawn.frames[0] == 0


@pytest.mark.parametrize("turn", [3.0, 7.0, 20.0])
def test_a_slow_turn_is_remembered_too(turn: float) -> None:
    """Each picture shows little that the one before does not, and the keyframes must show it all the same.

    After a whole turn, what each frame showed is drawn nearly everywhere from keyframes alone.
    """
    memory, place = still(turn), still().start(NOISE[:1], None)
    for _ in range(round(360 / turn)):
        place = memory.keep(memory.ahead(place, TURN), NOISE[0])
    for angle in range(0, 360, 15):
        assert place.points.draw(torch.tensor([0.0, 0.0, 0.0, angle])).seen.float().mean() > 0.7


def test_a_keyframe_is_added_only_where_the_cloud_lacks_something() -> None:
    """Of a view of 86 degrees, 5 more are too few for a keyframe, and 8 are enough; and the last one always is one."""
    for turn, count in ((0.0, 2), (1.0, 2), (4.0, 4), (60.0, 6)):
        place = still(turn).start(NOISE, torch.zeros(6, 2))
        assert len(place.points.keyframes) == count
        assert torch.equal(place.recent[0].picture, NOISE[-1])


def test_a_start_is_the_same_as_its_steps_one_by_one() -> None:
    memory, actions = still(20.0), torch.rand(6, 2)
    whole, place = memory.start(NOISE, actions), memory.start(NOISE[:1], None)
    for number in range(1, 6):
        place = memory.keep(memory.ahead(place, actions[number]), NOISE[number])
    assert same(whole, place)
    assert torch.equal(whole.actions, actions[3:]) and not torch.equal(whole.pose, memory.start(NOISE, None).pose)


def test_the_walk_network_reads_the_last_steps_and_the_walls() -> None:
    """What it is given, by hand."""
    memory, told = still(7.0), list[tuple[Tensor, ...]]()
    memory.walk.register_forward_pre_hook(lambda _, inputs: told.append(inputs))
    place, actions = memory.start(NOISE[:1], None), torch.rand(4, 2)
    for action in actions:
        want = place.points.ranges(place.pose, 8, CONFIG.walk.reach)
        place = memory.ahead(place, action)
        assert torch.equal(told[-1][2][0], want)
    assert torch.equal(told[-1][0][0], actions[1:])
    torch.testing.assert_close(told[-1][1][0], torch.tensor([[7.0, 0, 0]] * 3))
    torch.testing.assert_close(told[1][1][0], torch.tensor([[0.0, 0, 0], [0, 0, 0], [7, 0, 0]]))


def test_a_state_is_never_changed() -> None:
    """An earlier one is and does after all later calls what it was and did."""
    memory = still(30.0)
    place = memory.start(NOISE[:2], torch.zeros(2, 2))
    before = copy.deepcopy(place)
    drawing, shown = place.points.draw(place.pose).colour, memory.show([place], Means())
    later = place
    for picture in NOISE[2:]:
        later = memory.keep(memory.ahead(later, TURN), picture)
        memory.show([later, place], Means())
    assert len(later.points.keyframes) > len(place.points.keyframes)
    assert same(place, before)
    assert torch.equal(place.points.draw(place.pose).colour, drawing)
    assert torch.equal(memory.show([place], Means()), shown)


def test_what_is_shown_of_a_row_is_the_code_of_its_drawing_and_its_marks() -> None:
    """Site by site: a site is 2 x 2 cells, whose marks are channel-major; a row does not depend on the other."""
    memory = still(25.0)
    rows = [memory.ahead(memory.start(NOISE[n : n + 1], None), NOTHING) for n in (0, 3)]
    shown = memory.show(rows, Means())
    assert shown.shape == (2, 6, CONFIG.values(3, 2)) == (2, 6, 4 * (3 + MARKS))
    for row, one in zip(rows, shown):
        picture, marks = filled(row.drawn.colour, row.drawn.seen).float(), marked(row.drawn)
        for site, values in enumerate(one):
            top, left = site // 3, site % 3
            part = picture[16 * top : 16 * top + 16, 16 * left : 16 * left + 16]
            means = part.unflatten(0, (2, 8)).unflatten(2, (2, 8)).mean((1, 3))  # [2, 2, 3]
            torch.testing.assert_close(values[:12], means.permute(2, 0, 1).flatten(), rtol=1e-5, atol=1e-3)
            assert torch.equal(values[12:], marks[:, 2 * top : 2 * top + 2, 2 * left : 2 * left + 2].flatten())
    assert torch.equal(memory.show(rows[1:], Means())[0], shown[1])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="points and depth have pictures of different sizes"):
        CONFIG.replace(depth=DepthNetConfig(height=32, width=40, widths=(8, 8)))


def same(a: Place, b: Place) -> bool:
    """Whether two states are equal to the bit."""
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def tensors(place: Place) -> list[Tensor]:
    """Everything in a state."""
    frames = [tensor for frame in (*place.points.keyframes, *place.recent) for tensor in frame]
    drawing = [one for one in place.drawn if isinstance(one, Tensor)]
    return [place.pose, place.actions, place.moved, place.points.place, place.points.size, *drawing, *frames]


def test_without_actions_only_the_last_picture_is_kept() -> None:
    """The others were seen from places that nobody knows."""
    memory = still()
    whole, last = memory.start(NOISE, None), memory.start(NOISE[-1:], None)
    assert len(whole.points.keyframes) == 1
    assert torch.equal(whole.points.keyframes[0].picture, NOISE[-1])
    assert torch.equal(memory.ahead(whole, NOTHING).drawn.colour, memory.ahead(last, NOTHING).drawn.colour)


def test_the_last_picture_of_a_context_is_a_keyframe() -> None:
    """Also where the one before shows nearly the same."""
    place = still().start(NOISE[:1].repeat(3, 1, 1, 1), torch.zeros(3, 2))
    assert len(place.points.keyframes) == 2 and place.points.keyframes[-1] is place.recent[0]
