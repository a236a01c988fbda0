"""The policy: what goes first, and to whom; and it forgets nothing, whatever comes back from workers."""

import random

from vidar.synth.graph import Item, Kind, Link, graph_of
from vidar.synth.schedule import Scheduler, flight_for

PLAN, POP = Kind.PLAN, Kind.POP
CHAIN = frozenset({Link(PLAN, PLAN, 1), Link(POP, PLAN, 0)})


def policy(*lengths, in_flight=99, done=()):
    made = Scheduler(in_flight)
    for job, segments in enumerate(lengths):
        made.enter(job, graph_of(CHAIN, segments, job), [item for item in done if item.job == job])
    return made


def test_plans_come_first_then_the_earliest_segment():
    made = policy(3)
    order = []
    while not made.empty:
        _, item = made.next([0])
        order.append(item)
        made.finished(item)
    assert order == [Item(PLAN, 0, s) for s in range(3)] + [Item(POP, 0, s) for s in range(3)]


def test_a_video_that_began_first_ends_first():
    made, order = policy(2, 2, in_flight=2), []
    while not made.empty:
        _, item = made.next([0])
        order.append((item.job, item.segment, item.kind))
        made.finished(item)
    assert order.index((0, 1, POP)) < order.index((1, 1, POP))
    assert order[:3] == [(0, 0, PLAN), (0, 1, PLAN), (0, 0, POP)]


def test_a_segment_stays_with_the_worker_that_planned_it():
    made = policy(3)
    assert made.next([5, 7]) == (5, Item(PLAN, 0, 0))
    assert made.next([7]) is None
    made.finished(Item(PLAN, 0, 0))
    assert made.next([5, 7]) == (7, Item(PLAN, 0, 1))  # 5 is left to what it planned
    assert made.next([5]) == (5, Item(POP, 0, 0))
    made.finished(Item(PLAN, 0, 1))
    made.finished(Item(POP, 0, 0))
    assert made.next([5, 7]) == (5, Item(PLAN, 0, 2))
    assert made.next([7]) == (7, Item(POP, 0, 1))
    made.finished(Item(PLAN, 0, 2))
    assert made.next([9]) == (9, Item(POP, 0, 2))  # its home is busy: better elsewhere than never


def test_segments_in_flight_are_bounded():
    """A segment flies until all before it are populated."""
    made = policy(5, in_flight=2)
    for segment in (0, 1):
        assert made.next([0]) == (0, Item(PLAN, 0, segment))
        made.finished(Item(PLAN, 0, segment))
    assert made.full and made.next([0]) == (0, Item(POP, 0, 0))
    assert made.next([1]) == (1, Item(POP, 0, 1)) and made.next([2]) is None
    made.finished(Item(POP, 0, 1))
    assert made.full and made.next([1]) is None
    made.finished(Item(POP, 0, 0))
    assert made.flying == 0 and made.next([1]) == (1, Item(PLAN, 0, 2))


def test_a_lost_plan_is_made_again_also_where_all_are_in_flight():
    made = policy(3, 3, in_flight=2)
    assert made.next([0]) == (0, Item(PLAN, 0, 0)) and made.next([1]) == (1, Item(PLAN, 1, 0))
    made.finished(Item(PLAN, 0, 0))
    made.lost(Item(PLAN, 1, 0))
    assert made.next([0]) == (0, Item(PLAN, 1, 0))  # before the segment 1 of video 0, which is new


def test_what_exists_is_not_made_again():
    done = [Item(PLAN, 0, 0), Item(PLAN, 0, 1), Item(POP, 0, 0), Item(PLAN, 0, 2)]
    made = policy(4, in_flight=2, done=done)
    assert made.flying == 2 and made.full
    assert made.next([0]) == (0, Item(POP, 0, 1)) and made.next([1]) == (1, Item(POP, 0, 2))
    made.finished(Item(POP, 0, 1))
    assert made.next([0]) == (0, Item(PLAN, 0, 3))


def test_a_video_that_is_dropped_leaves_the_others():
    made = policy(3, 2, in_flight=3)
    for job in (0, 1):
        assert made.next([job]) == (job, Item(PLAN, job, 0))
    made.finished(Item(PLAN, 0, 0))
    assert made.next([0]) == (0, Item(PLAN, 0, 1))
    made.drop(0)
    assert made.flying == 1
    made.finished(Item(PLAN, 0, 1))  # it was in work
    made.finished(Item(PLAN, 1, 0))
    left = []
    while not made.empty:
        _, item = made.next([3])
        left.append(item)
        made.finished(item)
    assert left == [Item(PLAN, 1, 1), Item(POP, 1, 0), Item(POP, 1, 1)] and made.flying == 0


def test_with_any_losses_every_task_is_done_once_and_in_order():
    """200 random histories; a worker does one thing at a time, the bound holds, nothing is left."""
    draw = random.Random(0)
    for _ in range(200):
        lengths = [draw.randint(1, 5) for _ in range(draw.randint(1, 4))]
        workers, bound = draw.randint(1, 4), draw.randint(1, 5)
        made, finished = policy(*lengths, in_flight=bound), []
        before = {k: v for job, n in enumerate(lengths) for k, v in graph_of(CHAIN, n, job).before.items()}
        while not made.empty:
            free = set(range(workers)) - set(made.running.values())
            while (given := made.next(free)) is not None:
                free.remove(given[0])
                assert given[1] not in finished and before[given[1]] <= set(finished)
            populated = {(i.job, i.segment) for i in finished if i.kind is POP}
            begun = {(i.job, i.segment) for i in [*finished, *made.running]}
            flying = [(job, s) for job, s in begun if not all((job, earlier) in populated for earlier in range(s + 1))]
            assert len(flying) == made.flying <= bound
            item = draw.choice(sorted(made.running))
            if draw.random() < 0.3:
                made.lost(item)
            else:
                made.finished(item)
                finished.append(item)
        assert len(finished) == len(set(finished)) == 2 * sum(lengths) and made.flying == 0


def test_the_default_bound_keeps_all_workers_busy():
    assert [flight_for(n) for n in (1, 2, 8)] == [3, 5, 17]
