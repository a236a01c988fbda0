"""The cloud in a room with known walls: points lie on them, and what was seen is found and drawn again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vidar.cache.points import CELL, Frame, Points, PointsConfig, projected, unprojected
from vidar.types import UsageError

HALF, EYE = 100.0, 40.0  # the room is a square of 200 map units, floor and ceiling are 40 below and above the eye
CONFIG = PointsConfig(height=64, width=80, view=86.3)


def rays(pose: Tensor, config: PointsConfig = CONFIG) -> Tensor:
    """Direction [H, W, 3] of each pixel whose component along the view is 1."""
    flat = torch.ones(config.height, config.width)
    return unprojected(flat, torch.cat([torch.zeros(3), pose[3:]]), config)


def room(pose: Tensor, config: PointsConfig = CONFIG) -> Frame:
    """The picture of the room from a pose: the colour of a point is a function of its place. Closed form."""
    way = rays(pose, config).double()
    here = pose[:3].double()
    walls = torch.stack([torch.where(way[..., a] > 0, HALF - here[a], -HALF - here[a]) / way[..., a] for a in (0, 1)])
    level = EYE / way[..., 2].abs()
    depth = torch.cat([walls, level[None]]).amin(0)
    return Frame(colour(here + way * depth[..., None]), depth.float(), pose)


def colour(place: Tensor) -> Tensor:
    """Smooth colours, uint8 [..., 3]."""
    return (127.5 + 120 * torch.sin(place.double() / torch.tensor([23.0, 29.0, 17.0]))).to(torch.uint8)


def pose(x: float, y: float, angle: float) -> Tensor:
    return torch.tensor([x, y, 0.0, angle])


def around(count: int) -> Points:
    """A cloud of keyframes from the middle of the room."""
    points = CONFIG.build()
    for number in range(count):
        points = points.add(room(pose(0, 0, 360 * number / count)))
    return points


def test_points_lie_on_the_walls() -> None:
    for where in (pose(0, 0, 0), pose(30, -55, 77), pose(-80, 10, 200)):
        frame = room(where)
        place = unprojected(frame.depth, frame.pose, CONFIG)
        off = torch.stack([(place[..., :2].abs() - HALF).abs().amin(-1), (place[..., 2].abs() - EYE).abs()]).amin(0)
        assert off.max() < 1e-3


def test_projection_inverts_unprojection() -> None:
    frame = room(pose(30, -55, 77))
    depth, row, column, inside = projected(unprojected(frame.depth, frame.pose, CONFIG), frame.pose, CONFIG)
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    assert inside.all()
    torch.testing.assert_close(depth, frame.depth, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(row, rows, rtol=0, atol=1e-3)
    torch.testing.assert_close(column, columns, rtol=0, atol=1e-3)


def test_a_view_from_the_same_pose_is_the_same_picture() -> None:
    """And its own frame is retrieved first, among ten others."""
    points = around(10)
    for number in range(10):
        drawn = points.draw(points.keyframes[number].pose)
        assert drawn.frames[0] == number
        assert drawn.seen.all()
        assert torch.equal(drawn.colour, points.keyframes[number].picture)
        torch.testing.assert_close(drawn.grain, torch.ones(64, 80), rtol=1e-4, atol=0)


def test_a_view_from_another_pose_is_nearly_the_true_picture() -> None:
    """Every pixel has the colour of a point at most two pixels away on the wall."""
    points = around(10)
    for where in (pose(0, 0, 17), pose(12, -9, 140), pose(-20, 14, 301)):
        drawn, true = points.draw(where), room(where)
        assert drawn.seen.float().mean() > 0.8  # nearer parts of floor and ceiling were in no keyframe
        near = (drawn.depth[drawn.seen] / true.depth[drawn.seen]).log().abs()
        assert near.median() < 0.03
        off = (drawn.colour.float() - true.picture.float()).square().mean(-1)[drawn.seen].mean()
        assert 10 * math.log10(255**2 / float(off)) > 24


def test_a_wall_hides_what_is_behind_it() -> None:
    """A keyframe from behind a nearer surface shows through nowhere."""
    near = Frame(torch.full((64, 80, 3), 200, dtype=torch.uint8), torch.full((64, 80), 30.0), pose(0, 0, 0))
    behind = Frame(torch.zeros(64, 80, 3, dtype=torch.uint8), torch.full((64, 80), 50.0), pose(0, 0, 0))
    drawn = CONFIG.build().add(behind).add(near).draw(pose(2, 1, 0))
    assert (drawn.colour[4:-4, 4:-4] == 200).all()


def test_a_larger_surface_has_no_holes() -> None:
    """Walking up to a wall: its points move apart, and blocks fill the space between them."""
    frame = room(pose(0, 0, 0))
    drawn = CONFIG.build().add(frame).draw(pose(70, 0, 0))
    assert drawn.seen.all()
    assert drawn.grain.median() > 2.5


def test_ten_visits_leave_the_cloud_as_it_was() -> None:
    points = CONFIG.build()
    path = [pose(4.0 * step, -3.0 * step, 20.0 * step) for step in range(18)]
    for visit in range(10):
        for where in path:
            if points.lacks(points.draw(where)):
                points = points.add(room(where))
        if visit == 0:
            first = points.total
    assert points.total == first <= 18


def test_ranges_are_the_distances_of_the_walls() -> None:
    points = around(16)
    angle = math.radians(25)
    found = points.ranges(pose(0, 0, 25), 32, 300.0)
    for ray, far in enumerate(found.tolist()):
        middle = angle + (ray + 0.5) * 2 * math.pi / 32
        edges = [middle + side * math.pi / 32 for side in (-1, 0, 1)]
        true = [HALF / max(abs(math.cos(edge)), abs(math.sin(edge))) for edge in edges]
        assert far == 300.0 or min(true) * 0.98 <= far <= max(true) * 1.05
    assert (found < 300).sum() >= 24
    assert torch.equal(CONFIG.build().ranges(pose(0, 0, 0), 8, 50.0), torch.full((8,), 50.0))


def test_the_oldest_keyframe_makes_room() -> None:
    config = CONFIG.replace(capacity=4)
    points = config.build()
    for number in range(7):
        points = points.add(room(pose(0, 0, 50.0 * number)))
    assert (len(points.keyframes), points.total, len(points.place)) == (4, 7, 4)
    assert float(points.keyframes[0].pose[3]) == 150.0


def test_adding_changes_no_earlier_cloud() -> None:
    one = CONFIG.build().add(room(pose(0, 0, 0)))
    before = one.draw(pose(0, 0, 30)).colour
    one.add(room(pose(0, 0, 30)))
    assert len(one.keyframes) == 1
    assert torch.equal(one.draw(pose(0, 0, 30)).colour, before)


def test_an_empty_cloud_shows_nothing() -> None:
    drawn = CONFIG.build().draw(pose(0, 0, 0))
    assert not drawn.seen.any() and drawn.grain.isinf().all() and drawn.frames == ()
    assert CONFIG.build().lacks(drawn)


def test_sizes_are_whole_cells() -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        PointsConfig(height=60, width=80, view=90)
    assert np.prod(CONFIG.build().place.shape[1:3]) == 64 * 80 / CELL**2


def test_walls_from_above_are_the_sides_of_the_room_nearest_first():
    points, cell = around(8), 8
    here = pose(50, 0, 0)
    walls = points.walls(here, cell, 1000)
    low, high = walls * cell, (walls + 1) * cell
    inside = ((low <= HALF + 0.01) & (high >= -HALF - 0.01)).all(1)
    beside = torch.stack([(low <= side) & (side <= high) for side in (HALF - 0.01, -HALF + 0.01)]).any(0)
    assert len(walls) > 90 and len(walls.unique(dim=0)) == len(walls) and inside.all() and beside.any(1).all()
    far = ((walls + 0.5) * cell - here[:2]).square().sum(1)
    assert (far.diff() >= 0).all() and torch.equal(points.walls(here, cell, 7), walls[:7])
    assert len(points.walls(here, 1.0, 1000)) == 0  # none of the pictures shows a wall so finely: 1.7 units a pixel
    assert len(CONFIG.build().walls(here, cell, 7)) == 0
