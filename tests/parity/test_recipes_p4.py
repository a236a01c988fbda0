"""P4 over every recipe with an Order: after junk and a rewind everything is as it was, in bits, and goes on alike."""

from itertools import accumulate

import pytest
from recipe_cases import case_of, subjects
from test_p4 import decoder, run, same_bits, same_codes, tensors

SUBJECTS = subjects()


def parts_of(name, steps):
    """(before, junk, after), by the place of the mark.

    Of an endless order where its ring has wrapped, inside a unit or a frame of several calls; the junk is longer than
    what a unit reads. Of a finite one after the first call, and later.
    """
    subject, case = SUBJECTS[name], case_of(name)
    if not subject.endless:
        return [(steps[:n], steps[n:], steps[n:]) for n in (1, len(steps) // 3 + 1)]
    clock = list(accumulate((step.advance for step in steps), initial=case.clock))

    def past(units):
        return next(n for n, now in enumerate(clock) if now > units)

    cut = 1 + past(case.order.reach)
    junk, end = past(clock[cut] + case.order.reach), past(clock[cut] + 2 * max(subject.period, subject.depth) - 1)
    return [(steps[:cut], steps[cut : junk + 1], steps[cut:end])]


@pytest.mark.parametrize("name", SUBJECTS)
def test_p4_rewind_in_bits(name):
    case = case_of(name)
    for before, junk, after in parts_of(name, list(case.schedule())):
        straight, state = case.ring_state(), case.ring_state()
        run(decoder(case), straight, before)
        run(decoder(case), state, before)
        mark = state.mark()
        run(decoder(case, seed=99), state, junk)
        assert not same_bits(tensors(state), tensors(straight))
        state.rewind(mark)
        assert same_bits(tensors(state), tensors(straight)) and state.trace == straight.trace
        assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))
