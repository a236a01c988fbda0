"""Next-scale prediction: what is seen, asked, flipped, hidden and weighed, against slow loops."""

import math

import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.step import single
from vidar.objectives.hint import PreviousFrameHintConfig
from vidar.objectives.next_scale import NextScaleConfig
from vidar.orders.frame_scale import frame_scale_order
from vidar.rng import Rng
from vidar.sampling.filters import TopKConfig
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.fsq import FSQConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.schedules import still
from vidar.types import Past, Target, UsageError

SIDES = ((1, 1), (2, 2), (2, 3), (2, 3))
FRAMES, PERIOD = 4, 5


def system(quantiser=None, **changes):
    pyramid = MultiScaleConfig(quantiser=quantiser or BSQConfig(channels=6), sizes=still(SIDES)).build()
    order, grid = frame_scale_order(SIDES, FRAMES, 2)
    objective = NextScaleConfig(**changes).build(pyramid, grid, torch.float64)
    return objective, compile_layout(single(range(FRAMES * PERIOD - 1)), order, [grid])


def latents(batch=2, channels=6):
    return torch.randn(batch, FRAMES * 6, channels, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def rows_of(layout, unit):
    return layout.slots.unit[0] == unit


def test_clean_inputs_and_labels_are_those_of_each_frames_pyramid():
    o, layout = system()
    codes = latents()
    seen, target, keep = o.prepare(codes, layout, [Rng(0, 1), Rng(0, 2)], play=True)
    assert keep is None
    for b in range(2):
        for frame in range(FRAMES):
            x = codes[b, frame * 6 : frame * 6 + 6].T.reshape(1, 6, 1, 2, 3)
            found = o.pyramid.quantise(x)
            total = torch.zeros_like(x)
            for k in range(4):
                rows = rows_of(layout, frame * PERIOD + k)
                shown = o.pyramid.seen(total, k)[0].flatten(1).T
                assert torch.equal(seen[b, rows, :6], shown)
                assert (seen[b, rows, 6:] == torch.eye(PERIOD)[k]).all()
                assert torch.equal(target.value[b, rows], found.labels[k][0].flatten(0, 2))
                total = o.pyramid.accumulate(total, found.labels[k], k)
            rows = rows_of(layout, frame * PERIOD + 4)
            if frame < FRAMES - 1:  # nobody reads the last memory unit, and it is left out
                assert torch.equal(seen[b, rows, :6], found.total[0].flatten(1).T)
                assert (seen[b, rows, 6:] == torch.eye(PERIOD)[4]).all() and not target.weight[b, rows].any()


def test_flips_rise_with_the_frame_are_inherited_and_never_asked():
    """Labels of scale 0 stay clean, later ones are those of the flipped sum; memory holds the flipped frame."""
    o, layout = system(flip_first=0.0, flip_last=0.9, p_hidden=0.0)
    codes, rngs = latents(), [Rng(5, 1), Rng(5, 2)]
    clean, asked, _ = o.prepare(codes, layout, rngs, play=True)
    seen, target, keep = o.prepare(codes, layout, rngs)
    assert keep is None
    first = layout.slots.unit[0] < PERIOD
    assert torch.equal(seen[:, first], clean[:, first]) and torch.equal(target.value[:, first], asked.value[:, first])
    differ = []
    for frame in range(1, FRAMES):
        base = frame * PERIOD
        rows = rows_of(layout, base)
        assert torch.equal(target.value[:, rows], asked.value[:, rows])
        later = [rows_of(layout, base + k) for k in (1, 2, 3)]
        differ.append(sum(float((target.value[:, r] != asked.value[:, r]).double().mean()) for r in later))
        for b in range(2):
            x = codes[b, frame * 6 : frame * 6 + 6].T.reshape(1, 6, 1, 2, 3)
            total = torch.zeros_like(x)
            for k in range(4):
                rows = rows_of(layout, base + k)
                labels = target.value[b, rows].reshape(1, *o.pyramid.sizes[k], 6)
                assert torch.equal(seen[b, rows, :6], o.pyramid.seen(total, k)[0].flatten(1).T)
                wanted = o.pyramid.down(x - total, k).movedim(1, -1)
                assert torch.equal(labels, o.pyramid.quantiser.quantise(wanted).labels)
                u = rngs[b].uniform("flip", frame, k, (1 + 2 * labels.numel(),))
                p = 0.01 * int(u[0] * (int(0.9 * frame / (FRAMES - 1) / 0.01 + 1e-6) + 1))
                flipped = (labels + (u[1 : 1 + labels.numel()] < p).reshape(labels.shape)) % 2
                total = o.pyramid.accumulate(total, flipped, k)
            if frame < FRAMES - 1:
                assert torch.equal(seen[b, rows_of(layout, base + 4), :6], total[0].flatten(1).T)
    assert max(differ) > 0


def test_hidden_frames_are_drawn_per_frame_and_the_one_before_is_spared_half_the_time():
    o, layout = system(p_hidden=0.5)
    counts, batch = torch.zeros(FRAMES, FRAMES), 400
    rngs = [Rng(9, b) for b in range(batch)]
    keep = o._hidden(rngs, FRAMES)
    for frame in range(FRAMES):
        own = keep[:, frame * PERIOD : (frame + 1) * PERIOD]
        assert (own == own[:, :1]).all(), "all units of a frame agree"
        assert own[:, :, [c for c in range(own.shape[2]) if c % PERIOD != 4 or c // PERIOD >= frame]].all()
        counts[frame] = own[:, 0, 4::PERIOD].double().mean(0)
    error = 5 * math.sqrt(0.25 / batch)
    for frame in range(1, FRAMES):
        assert abs(counts[frame, frame - 1] - 0.75) < error
        assert all(abs(counts[frame, past] - 0.5) < error for past in range(frame - 1))


def test_loss_is_the_weighted_mean_over_label_parts():
    o, layout = system(quantiser=FSQConfig(levels=(3, 2, 5)), balance=0.5, p_hidden=0.0)
    assert o.output_width == 10
    seen, target, _ = o.prepare(latents(channels=3), layout, [Rng(0, 1), Rng(0, 2)])
    out = torch.randn(2, seen.shape[1], 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total, weights = 0.0, 0.0
    for b in range(2):
        for slot, unit in enumerate(layout.slots.unit[0].tolist()):
            k = unit % PERIOD
            if k == 4:
                continue
            h, w = SIDES[k]
            weight = math.sqrt(6 / (h * w))
            parts = [out[b, slot, :3], out[b, slot, 3:5], out[b, slot, 5:]]
            labels = target.value[b, slot].tolist()
            entropy = sum(-float(part.log_softmax(0)[label]) for part, label in zip(parts, labels)) / 3
            total, weights = total + weight * entropy, weights + weight
    assert o.loss(out, target).total.item() == pytest.approx(total / weights)
    right = out.new_full((1, 1, 10), -9.0)
    right[0, 0, [1, 3, 9]] = 9.0
    found = o.loss(right, Target(torch.tensor([[[1, 0, 4]]]), torch.ones(1, 1, dtype=torch.float64)))
    assert found.parts["guessed"] == 1 and found.total < 1e-6


def test_labels_are_drawn_from_the_filtered_logits():
    o, _ = system(quantiser=FSQConfig(levels=(3, 2, 5)))
    out = torch.log(torch.tensor([0.2, 0.5, 0.3, 0.9, 0.1, 0.1, 0.2, 0.3, 0.35, 0.05], dtype=torch.float64))
    draws = torch.stack([o.update(2, out, out.expand(6, -1), 0, Rng(0, n)) for n in range(500)]).flatten(0, 1)
    for part, chances in enumerate(([0.2, 0.5, 0.3], [0.9, 0.1], [0.1, 0.2, 0.3, 0.35, 0.05])):
        for value, chance in enumerate(chances):
            share = float((draws[:, part] == value).double().mean())
            assert abs(share - chance) < 5 * math.sqrt(chance * (1 - chance) / len(draws))
    greedy, _ = system(quantiser=FSQConfig(levels=(3, 2, 5)), filters=(TopKConfig(count=1),))
    assert greedy.update(2, out, out.expand(6, -1), 0, Rng(0)).tolist() == [[1, 0, 3]] * 6
    assert torch.equal(o.update(2, out, out[None], 0, Rng(1)), o.update(2, out, out[None], 0, Rng(1)))


def test_a_scale_has_filters_of_its_own():
    """The first scale takes the likeliest label, the second draws, in every frame."""
    kinds = {"quantiser": FSQConfig(levels=(3, 2, 5))}
    o, _ = system(**kinds, by_scale=((TopKConfig(count=1),), (), (), ()))
    plain, _ = system(**kinds)
    out = torch.randn(6, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for frame in (0, PERIOD):
        first, plainly = (x.update(frame, out, out, 0, Rng(0)) for x in (o, plain))
        best = torch.stack([part.argmax(-1) for part in out.split((3, 2, 5), -1)], -1)
        assert torch.equal(first, best) and not torch.equal(plainly, best)
        drawn, same = (x.update(frame + 1, out, out, 0, Rng(0)) for x in (o, plain))
        assert torch.equal(drawn, same)
    with pytest.raises(UsageError, match="by_scale has 2 entries; give one per scale, 4"):
        system(by_scale=((), ()))


def test_a_memory_unit_may_hold_the_coarse_scales_alone():
    """In training and in play it is the sum of the first scales of the frame, quantised anew."""
    o, layout = system(recall=2)
    whole, _ = system()
    codes = latents()
    seen = o.prepare(codes, layout, [Rng(0, 1), Rng(0, 2)], play=True)[0]
    full = whole.prepare(codes, layout, [Rng(0, 1), Rng(0, 2)], play=True)[0]
    rows = rows_of(layout, 4)
    frame = full[:1, rows, :6].transpose(1, 2).reshape(1, 6, 1, 2, 3)
    coarse = o.pyramid.features(o.pyramid.quantise(frame).labels[:2])
    assert torch.equal(seen[0, rows, :6], coarse[0].flatten(1).T.double())
    assert not torch.equal(seen[0, rows], full[0, rows]) and torch.equal(
        seen[0, rows_of(layout, 5)], full[0, rows_of(layout, 5)]
    )
    played = o.memory(4, full[0, rows, :6], Past({}, {}), Rng(0))
    assert torch.equal(played, seen[0, rows])


def test_a_hint_is_the_frame_before_at_the_size_of_the_scale():
    """Zero in the first frame, for memory units, and where the mask hides that frame; the same in play."""
    o, layout = system(hint=PreviousFrameHintConfig(), flip_first=0.5, flip_last=0.5, p_hidden=0.5)
    plain, _ = system(flip_first=0.5, flip_last=0.5, p_hidden=0.5)
    rngs = [Rng(0, 3), Rng(0, 4)]
    seen, _, keep = o.prepare(latents(), layout, rngs)
    bare, _, _ = plain.prepare(latents(), layout, rngs)
    assert torch.equal(torch.cat([seen[..., :6], seen[..., 12:]], -1), bare) and seen.shape[-1] == o.input_width
    shown = 0
    for b in range(2):
        for unit in range(FRAMES * PERIOD - 1):
            frame, k = divmod(unit, PERIOD)
            hint = seen[b, rows_of(layout, unit), 6:12]
            hidden = frame == 0 or k == 4 or not keep[b, frame * PERIOD, frame * PERIOD - 1]
            before = bare[b, rows_of(layout, frame * PERIOD - 1), :6] if frame else bare[b, :6, :6]
            want = o.pyramid.down(before.T.reshape(1, 6, 1, 2, 3), k)[0].flatten(1).T if not hidden else 0 * hint
            assert torch.equal(hint, want)
            shown += not hidden
            if not hidden and k == 0:
                assert torch.equal(o.start(unit, Past({unit - 1: before}, {}), Rng(0))[:, 6:12], want)
    assert 0 < shown < 2 * (FRAMES - 1) * 4


def test_content_edges_name_what_an_input_is_built_from():
    """Without a hint those of the order; with one also the frame before."""
    order, _ = frame_scale_order(SIDES, FRAMES, 2)
    units = torch.arange(FRAMES * PERIOD)
    q, k = units[:, None], units[None]
    plain, hinted = system()[0], system(hint=PreviousFrameHintConfig())[0]
    assert torch.equal(plain.needs(q, k), order.needs_table)
    more = hinted.needs(q, k) & ~plain.needs(q, k)
    assert more.nonzero().tolist() == [[f * PERIOD + s, f * PERIOD - 1] for f in range(1, FRAMES) for s in range(4)]
