"""Pyramids: what is seen, asked, flipped and weighed, against slow loops; who sees whom, against hand-written masks."""

import math

import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.step import by_waves, single
from vidar.objectives.pyramids import PyramidsConfig
from vidar.orders.scale import ClipScaleOrderConfig, ScaleOrderConfig
from vidar.rng import Rng
from vidar.sampling.filters import TemperatureConfig, TopKConfig
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.schedules import still
from vidar.tokenizers.vq import VQConfig
from vidar.types import Past, UsageError

SIDES = ((1, 1), (2, 2), (2, 2), (2, 3))
SCALES = len(SIDES)
VQ = {"up": "bicubic", "num_phi": 4, "beta": 0.25}


def system(frames=1, clip=2, quantiser=None, pyramid=None, **changes):
    config = MultiScaleConfig(quantiser=quantiser or BSQConfig(channels=6), sizes=still(SIDES), **(pyramid or {}))
    torch.manual_seed(3)
    built = config.build()
    order_config = (ScaleOrderConfig() if frames == 1 else ClipScaleOrderConfig(clip=clip)).over(SIDES)
    order, grid = order_config.build(*SIDES[-1], frames)
    sizes = order_config.sizes(frames)
    objective = PyramidsConfig(**changes).build([built.at(size) for size in sizes], torch.float64)
    return objective, order, grid, compile_layout(single(range(order.num_units)), order, [grid])


def latents(frames, batch=2, channels=6):
    return torch.randn(batch, frames * 6, channels, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def piece(codes, b, start, frames):
    """[1, C, t, h, w] of some frames."""
    return codes[b, start * 6 : (start + frames) * 6].T.reshape(1, -1, frames, 2, 3)


def test_an_image_sees_and_asks_what_its_pyramid_says():
    """VAR: VQ with phi, nothing flipped, every label weighs the same."""
    o, order, _, layout = system(quantiser=VQConfig(channels=6, size=40, seed=5), pyramid=VQ, flip=0.0, balance=0.0)
    with torch.no_grad():
        o.pyramids[0].quantiser.codebook.normal_(generator=torch.Generator().manual_seed(1))
    codes = latents(1)
    seen, target, keep = o.prepare(codes, layout, [Rng(0, 1), Rng(0, 2)])
    assert keep is None and (target.weight == 1).all() and o.output_width == 40 and o.input_width == 6 + SCALES + 3
    for b in range(2):
        x, total = piece(codes, b, 0, 1), torch.zeros(1, 6, 1, 2, 3, dtype=torch.float64)
        for k in range(SCALES):
            rows = layout.slots.unit[0] == k
            shown = torch.zeros(1, 6, 1, 1, 1, dtype=torch.float64) if k == 0 else o.pyramids[0].seen(total, k)
            assert (seen[b, rows, :6] - shown[0].flatten(1).T).abs().max() < 1e-12
            assert (seen[b, rows, 6:-3] == torch.eye(SCALES)[k]).all()
            h, w = SIDES[k]
            places = [(0.0, (2 * y + 1) / h - 1, (2 * x + 1) / w - 1) for y in range(h) for x in range(w)]
            assert torch.allclose(seen[b, rows, -3:], torch.tensor(places, dtype=torch.float64), atol=1e-12)
            rest = torch.nn.functional.adaptive_avg_pool3d(x - total, (1, *SIDES[k]))[0].flatten(1).T
            nearest = torch.cdist(rest, o.pyramids[0].quantiser.codebook.double()).argmin(1)
            assert torch.equal(target.value[b, rows, 0], nearest)
            total = o.pyramids[0].accumulate(total, nearest.reshape(1, 1, *SIDES[k], 1), k)


@pytest.mark.parametrize("frames", [1, 5])
def test_labels_stay_clean_and_later_ones_are_those_of_the_flipped_sum(frames):
    """Bitwise self-correction in every pyramid by itself, one strength for each visit; F starts anew in each."""
    o, order, _, layout = system(frames, flip=0.9)
    codes, rngs = latents(frames), [Rng(5, 1), Rng(5, 2)]
    clean, asked, _ = o.prepare(codes, layout, rngs, play=True)
    seen, target, _ = o.prepare(codes, layout, rngs)
    moved, strengths, start = 0, [], 0
    for number, pyramid in enumerate(o.pyramids):
        length = pyramid.sizes[0][0]
        for b, rng in enumerate(rngs):
            x = piece(codes, b, start, length)
            total = torch.zeros_like(x)
            for k in range(SCALES):
                rows = layout.slots.unit[0] == number * SCALES + k
                labels = target.value[b, rows].reshape(1, length, *SIDES[k], 6)
                assert torch.equal(seen[b, rows, :6], pyramid.seen(total, k)[0].flatten(1).T)
                rest = torch.nn.functional.adaptive_avg_pool3d(x - total, (length, *SIDES[k])).movedim(1, -1)
                assert torch.equal(labels, (rest > 0).long())  # clean, though the past is not
                moved += int((target.value[b, rows] != asked.value[b, rows]).sum())
                u = rng.uniform("flip", number, k, (1 + 2 * labels.numel(),))
                strengths.append(0.01 * int(u[0] * (int(0.9 / 0.01 + 1e-6) + 1)))
                flipped = (labels + (u[1 : 1 + labels.numel()] < strengths[-1]).reshape(labels.shape)) % 2
                total = pyramid.accumulate(total, flipped, k)
        first = layout.slots.unit[0] == number * SCALES
        assert torch.equal(seen[:, first], clean[:, first]) and torch.equal(
            target.value[:, first], asked.value[:, first]
        )
        start += length
    assert moved > 0 and len(set(strengths)) > 0.8 * len(strengths)
    still_clean = system(frames, flip=0.0)[0].prepare(codes, layout, rngs)
    assert torch.equal(still_clean[0], clean) and torch.equal(still_clean[1].value, asked.value)


def test_a_clip_has_the_labels_of_its_frames():
    """Clips have t at every scale, so their pyramids of bits are those of single frames: one tokenizer serves both."""
    o, _, _, layout = system(5)
    x = latents(5).unflatten(1, (5, 2, 3)).permute(0, 4, 1, 2, 3)
    _, target, _ = o.prepare(latents(5), layout, [Rng(0)] * 2, play=True)
    found = o.pyramids[0].per_frame(x).labels
    for number, start in enumerate((0, 1, 3)):
        length = o.pyramids[number].sizes[0][0]
        for k in range(SCALES):
            rows = layout.slots.unit[0] == number * SCALES + k
            assert torch.equal(target.value[:, rows], found[k][:, start : start + length].flatten(1, 3))


def test_weights_of_the_three_systems():
    counts = [1, 4, 4, 6, 2, 8, 8, 12]
    for changes, weigh in (
        ({"balance": 0.0}, lambda n: 1.0),
        ({"balance": 0.5}, lambda n: math.sqrt(12 / n)),
        ({"balance": 0.2, "heaviest": 1.4}, lambda n: min(1.4, (12 / n) ** 0.2)),
    ):
        o, _, _, layout = system(3, **changes)
        _, target, _ = o.prepare(latents(3), layout, [Rng(0)] * 2)
        wanted = torch.cat([torch.full((n,), weigh(n), dtype=torch.float64) for n in counts])
        assert torch.allclose(target.weight, wanted.expand(2, -1), atol=1e-12)
    infinity, _, _, layout = system(1, balance=0.5)
    _, target, _ = infinity.prepare(latents(1), layout, [Rng(0)] * 2)
    share = target.weight[0] / target.weight[0].sum()  # Infinity: proportional to sqrt(N_K / N_k), sum 1
    by_hand = torch.cat([torch.full((n,), math.sqrt(6 / n), dtype=torch.float64) for n in (1, 4, 4, 6)])
    assert torch.allclose(share, by_hand / by_hand.sum(), atol=1e-12)


def test_var_mask_is_block_lower_triangular():
    _, order, _, layout = system(1)
    level = [k for k, (h, w) in enumerate(SIDES) for _ in range(h * w)]
    slow = torch.tensor([[a >= b for b in level] for a in level])
    assert torch.equal(layout.views["main"].dense[0], slow)
    assert [len(step.rows) for step in by_waves(order, ((1, 0),))] == [1] * SCALES


def test_infinitystar_sees_itself_and_the_last_scale_of_the_pyramid_before():
    o, order, grid, layout = system(5)
    place = []  # (pyramid, scale) of every site
    for number, length in enumerate((1, 2, 2)):
        place += [(number, k) for k, (h, w) in enumerate(SIDES) for _ in range(length * h * w)]
    slow = [[a == b or (b[0] == a[0] - 1 and b[1] == SCALES - 1) for b in place] for a in place]
    assert torch.equal(layout.views["main"].dense[0], torch.tensor(slow))
    assert order.num_units == 3 * SCALES and len(order.waves()) == 3 * SCALES  # needs != sees makes the waves
    for u in range(order.num_units):
        assert [v for v in range(order.num_units) if order.need(u, v)] == list(range(u // SCALES * SCALES, u))
    frames = grid.coord(layout.slots.site[0])[:, grid.axes.index("t")]
    assert sorted(set(frames.tolist())) == [0, 1, 2, 3, 4]
    assert [p.sizes for p in o.pyramids] == [still(SIDES, length) for length in (1, 2, 2)]


def test_sampling_sees_what_training_saw():
    """P3: the inputs of every scale, from the labels alone, are those of training on the same labels."""
    for quantiser, pyramid in ((BSQConfig(channels=6), {}), (VQConfig(channels=6, size=20), VQ)):
        frames = 1 if pyramid else 5
        o, order, grid, layout = system(frames, quantiser=quantiser, pyramid=pyramid, flip=0.0)
        seen, target, _ = o.prepare(latents(frames, 1), layout, [Rng(0)])
        labels = {u: target.value[0, layout.slots.unit[0] == u] for u in range(order.num_units)}
        for u in range(order.num_units):
            past = Past({v: code for v, code in labels.items() if order.need(u, v)}, {})
            started = o.start(u, past, Rng(1))
            assert torch.equal(started, seen[0, layout.slots.unit[0] == u]), f"unit {u}"
            assert torch.equal(o.memory(u, labels[u], past, Rng(1)), o.inputs(u, started, 0))


def test_some_scales_alone_are_prepared_alike():
    o, order, grid, layout = system(5)
    some = compile_layout(single([0, 3, 5, 8]), order, [grid])
    rngs = [Rng(2, 1), Rng(2, 2)]
    whole, part = o.prepare(latents(5), layout, rngs), o.prepare(latents(5), some, rngs)
    rows = torch.isin(layout.slots.unit[0], torch.tensor([0, 3, 5, 8]))
    assert torch.equal(whole[0][:, rows], part[0]) and torch.equal(whole[1].value[:, rows], part[1].value)


def test_labels_of_64_bits():
    """2^64 codes are 64 labels of two classes: 128 outputs, and the last bit counts as much as the first."""
    o, _, _, layout = system(1, quantiser=BSQConfig(channels=64), flip=0.0)
    assert o.output_width == 128 and o.input_width == 64 + SCALES + 3
    _, target, _ = o.prepare(latents(1, channels=64), layout, [Rng(0)] * 2)
    assert target.value.shape == (2, 15, 64)
    sure = torch.nn.functional.one_hot(target.value, 2).flatten(2).double() * 40
    assert o.loss(sure, target).total < 1e-9 and o.loss(sure, target).parts["guessed"].item() == pytest.approx(1)
    drawn = o.update(3, sure[0, -6:], sure[0, -6:], 0, Rng(4))
    assert torch.equal(drawn, target.value[0, -6:])
    other = sure.clone()
    other[..., 126:] = other[..., 126:].flip(-1)  # every last bit wrong
    assert o.loss(other, target).total.item() == pytest.approx(40 / 64)


def test_image_and_clips_have_filters_of_their_own():
    cold = ((), (TopKConfig(count=1),))
    o, _, _, _ = system(5, by_pyramid=cold)
    plain, _, _, _ = system(5)
    out = torch.randn(4, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    best = out.unflatten(1, (6, 2)).argmax(-1)
    assert torch.equal(o.update(1, out, out, 0, Rng(0)), plain.update(1, out, out, 0, Rng(0)))
    for unit in (SCALES + 1, 2 * SCALES + 1):  # the last entry serves all further pyramids
        assert torch.equal(o.update(unit, out, out, 0, Rng(0)), best)
        assert not torch.equal(plain.update(unit, out, out, 0, Rng(0)), best)
    halved, _, _, _ = system(1, filters=(TemperatureConfig(value=0.5),))
    assert torch.equal(halved.update(1, out, out, 0, Rng(0)), plain.update(1, out, 2 * out, 0, Rng(0)))


def test_lengths_that_are_no_pyramids():
    with pytest.raises(UsageError, match="2 latent frames are less than one clip; the first frame and a clip are 3"):
        ClipScaleOrderConfig(clip=2).over(SIDES).sizes(2)
    with pytest.raises(UsageError, match="4 latent frames are not the first frame plus whole clips of 2; use 3 or 5"):
        ClipScaleOrderConfig(clip=2).over(SIDES).sizes(4)
    with pytest.raises(UsageError, match="an image model generates one latent frame, not 3"):
        ScaleOrderConfig().over(SIDES).sizes(3)
    with pytest.raises(UsageError, match="by_scale has 1 entries; give one per scale, 4"):
        system(1, by_scale=((),))
