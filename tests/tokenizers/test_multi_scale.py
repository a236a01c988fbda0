"""The residual pyramid against slow loops; round trips, drops, corruption, layouts, streams."""

import math

import numpy as np
import pytest
import torch

from vidar.config import from_dict, to_dict
from vidar.objectives.flips import random_flips
from vidar.rng import Rng
from vidar.tokenizers import multi_scale as ms
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.fsq import FSQConfig
from vidar.tokenizers.lfq import LFQConfig
from vidar.tokenizers.schedules import still
from vidar.tokenizers.vq import VQConfig
from vidar.types import UsageError

SIZES = ((1, 1, 1), (1, 2, 3), (1, 3, 4), (1, 5, 6))
QUANTISERS = (VQConfig(channels=3, size=12), LFQConfig(channels=3), FSQConfig(levels=(5, 2, 4)), BSQConfig(channels=3))


def latents(*shape, seed=0, dtype=torch.float32):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=dtype)


def pyramid(quantiser=QUANTISERS[3], sizes=SIZES, **options):
    torch.manual_seed(0)
    model = ms.MultiScaleConfig(quantiser=quantiser, sizes=sizes, **options).build()
    if isinstance(quantiser, VQConfig):
        model.quantiser.codebook.data.copy_(latents(quantiser.size, quantiser.channels, seed=9))
    return model


def area(x, size):
    """x [t, h, w] -> size: mean over floor(i n / m) to ceil((i + 1) n / m)."""
    out = np.zeros(size)
    for place in np.ndindex(*size):
        span = [slice(i * n // m, -((-(i + 1) * n) // m)) for i, n, m in zip(place, x.shape, size)]
        out[place] = x[tuple(span)].mean()
    return out


def cubic(d, a=-0.75):
    d = abs(d)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return near if d <= 1 else far if d < 2 else 0.0


def triangle(d):
    return max(0.0, 1 - abs(d))


def line(x, size, kernel, clamp):
    """Resample the first axis: pixel centres, edges repeated; `clamp` the centre itself, as linear modes do."""
    out = np.zeros((size, *x.shape[1:]))
    for i in range(size):
        centre = (i + 0.5) * len(x) / size - 0.5
        centre = max(centre, 0) if clamp else centre
        for j in range(math.floor(centre) - 2, math.floor(centre) + 4):
            out[i] += kernel(centre - j) * x[min(max(j, 0), len(x) - 1)]
    return out


def upsample(x, size, up):
    if x.shape == tuple(size):
        return x
    kernel, clamp = (cubic, False) if up == "bicubic" else (triangle, True)
    for axis in range(3):
        x = np.moveaxis(line(np.moveaxis(x, axis, 0), size[axis], kernel, clamp), 0, axis)
    return x


def each(function, x, *rest):
    return np.stack([function(channel, *rest) for channel in x])


@pytest.mark.parametrize("up", ["trilinear", "bicubic"])
def test_resampling_against_loops(up):
    times = (2, 2, 2) if up == "bicubic" else (1, 2, 3)
    sizes = tuple((t, *side) for t, side in zip(times, ((2, 3), (3, 3), (5, 7))))
    model, x = pyramid(sizes=sizes, up=up), latents(1, 3, *sizes[2], dtype=torch.float64)
    for k, size in enumerate(sizes):
        low = each(area, x[0].numpy(), size)
        assert np.allclose(model.down(x, k)[0], low) and np.allclose(model.seen(x, k)[0], low if k else 0)
        assert np.allclose(model._up(torch.tensor(low)[None])[0], each(upsample, low, sizes[2], up))
    assert torch.equal(model.down(x, 2), x) and torch.equal(model._up(x), x)


@pytest.mark.parametrize("up", ["trilinear", "bicubic"])
def test_the_residual_loop_against_a_slow_one(up):
    model, x = pyramid(up=up), latents(2, 3, *SIZES[-1], dtype=torch.float64)
    found = model.quantise(x)
    losses = []
    total = np.zeros(x.shape)
    for k, size in enumerate(SIZES):
        u = np.stack([each(area, row - f, size) for row, f in zip(x.numpy(), total)])
        bits = np.moveaxis(u > 0, 1, -1)
        assert np.array_equal(found.labels[k], bits)
        losses.append(model.quantiser.quantise(torch.tensor(np.moveaxis(u, 1, -1))).loss)
        code = np.where(u > 0, 1, -1) / math.sqrt(3)
        total = total + np.stack([each(upsample, row, SIZES[-1], up) for row in code])
        assert np.allclose(model.features(found.labels[: k + 1]), total, atol=1e-6)
    assert np.allclose(found.total, total, atol=1e-6) and found.kept.all() and found.kept.shape == (2, 4)
    assert found.loss.total.item() == pytest.approx(np.mean([loss.total.item() for loss in losses]))
    for name in ("sample_entropy", "batch_entropy", "commitment"):
        mean = np.mean([loss.parts[name].item() for loss in losses])
        assert found.loss.parts[name].item() == pytest.approx(mean, rel=1e-5)


def test_vars_loop_with_phi_and_its_loss():
    model = pyramid(QUANTISERS[0], up="bicubic", num_phi=2, beta=0.25, rho=0.3).double()
    x = latents(2, 3, *SIZES[-1], dtype=torch.float64).requires_grad_()
    found = model.quantise(x)
    total, loss, steps = torch.zeros_like(x), 0, []
    codebook = model.quantiser.codebook
    for k, conv in enumerate((0, 0, 1, 1)):  # ticks 1/4 and 3/4 against 0, 1/3, 2/3, 1
        u = np.stack([each(area, row, SIZES[k]) for row in (x - total).detach().numpy()])
        distance = ((np.moveaxis(u, 1, -1)[..., None, :] - codebook.detach().numpy()) ** 2).sum(-1)
        index = torch.tensor(distance.argmin(-1))
        assert torch.equal(found.labels[k][..., 0], index)
        code = codebook[index].permute(0, 4, 2, 3, 1)[..., 0]  # one frame: B C h w
        h = code if k == 3 else torch.nn.functional.interpolate(code, size=SIZES[-1][1:], mode="bicubic")
        total = total + (0.7 * h + 0.3 * model.phi[conv](h))[:, :, None]
        steps.append(total)
        loss = loss + 0.25 * ((total.detach() - x) ** 2).mean() + ((total - x.detach()) ** 2).mean()
    assert torch.allclose(found.total, total) and torch.allclose(found.loss.total, loss / 4)
    everything = [x, codebook, *model.phi.parameters()]
    fast = torch.autograd.grad(found.loss.total, everything)
    for a, b in zip(fast, torch.autograd.grad(loss / 4, everything)):
        assert torch.allclose(a, b, atol=1e-12)
    codebook_part = np.mean([((s - x) ** 2).mean().item() for s in steps])
    assert found.loss.parts["codebook"].item() == pytest.approx(codebook_part)


def test_phi_ticks():
    # VAR: four convolutions over ten scales; 2/9 and 7/9 lie half way, where rounding decides as in numpy
    ticks = [1 / 12, 13 / 36, 23 / 36, 11 / 12]
    for k in set(range(10)) - {2, 7}:
        assert ms.phi_index(k, 10, 4) == min(range(4), key=lambda m: abs(ticks[m] - k / 9))
    assert [ms.phi_index(k, 10, 4) for k in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    for k in range(8):
        assert ms.phi_index(k, 8, 5) == min(range(5), key=lambda m: abs((2 * m + 1) / 10 - k / 7))
    assert [ms.phi_index(k, 6, 1) for k in range(6)] == [0] * 6 and ms.phi_index(0, 1, 4) == 0


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=lambda q: type(q).__name__)
def test_labels_round_trip_in_bits_and_the_gradient_goes_straight_through(quantiser):
    phi = {"num_phi": 3, "beta": 0.25, "up": "bicubic"} if isinstance(quantiser, VQConfig) else {}
    model, x = pyramid(quantiser, **phi), latents(3, 3, *SIZES[-1]).requires_grad_()
    found = model.quantise(x)
    assert torch.equal(model.decode(found.labels), found.total)
    total = torch.zeros_like(x)
    for k, labels in enumerate(found.labels):
        assert labels.shape == (3, *SIZES[k], len(model.quantiser.classes)) and labels.dtype == torch.long
        assert torch.equal(total, model.features(found.labels[:k]) if k else total)
        total = model.accumulate(total, labels, k)
    assert torch.equal(total, found.total)
    weight = latents(*x.shape, seed=1)
    assert torch.equal(torch.autograd.grad((found.total * weight).sum(), x)[0], weight)


def test_64_bits_round_trip_in_bits():
    model, x = pyramid(BSQConfig(channels=64)), latents(1, 64, *SIZES[-1])
    found = model.quantise(x)
    assert found.labels[-1].shape == (1, 1, 5, 6, 64) and torch.equal(model.decode(found.labels), found.total)


def test_dropped_scales_have_no_code_and_no_label():
    model = pyramid(p_drop=0.5)
    x, rngs = latents(6, 3, *SIZES[-1]), [Rng(1, n) for n in range(6)]
    found = model.quantise(x, rngs, training=True)
    for row, rng in enumerate(rngs):
        assert found.kept[row].tolist() == [True, *(rng.uniform("dropped_scales", 0, 0, (4,))[1:] >= 0.5).tolist()]
    assert 3 < (~found.kept).sum() < 15
    assert torch.equal(model.decode(found.labels, found.kept), found.total)
    losses = [[] for _ in SIZES]
    for row in range(6):
        total = torch.zeros_like(x[:1])
        for k in range(4):
            if not found.kept[row, k]:
                assert (found.labels[k][row] == -1).all()
                continue
            u = model.down(x[row : row + 1] - total, k).movedim(1, -1)
            losses[k].append(u)
            labels = model.quantiser.quantise(u).labels
            assert torch.equal(labels, found.labels[k][row : row + 1])
            total = model.accumulate(total, labels, k)
        assert torch.equal(total, found.total[row : row + 1])
    weights = [len(rows) for rows in losses]
    means = [model.quantiser.quantise(torch.cat(rows)).loss.total.item() for rows in losses]
    want = sum(w * m for w, m in zip(weights, means)) / sum(weights)
    assert found.loss.total.item() == pytest.approx(want, rel=1e-5)
    alone = model.quantise(x[4:5], rngs[4:5], training=True)
    assert torch.equal(alone.kept[0], found.kept[4]) and torch.equal(alone.total[0], found.total[4])
    assert model.quantise(x, rngs).kept.all(), "outside training nothing is dropped"
    with pytest.raises(UsageError, match="label -1 of part 0"):
        model.decode(found.labels)


def test_short_schedules_come_half_of_the_time():
    model, x = pyramid(QUANTISERS[0], beta=0.25, num_short=2), latents(1, 3, *SIZES[-1]).expand(200, -1, -1, -1, -1)
    found = model.quantise(x, [Rng(2, n) for n in range(200)], training=True)
    kept = found.kept
    assert kept[:, :2].all() and torch.equal(kept[:, 2], kept[:, 3])
    assert abs(kept[:, 3].double().mean() - 0.5) < 4 * math.sqrt(0.25 / 200)  # 4 deviations of 200 draws
    short = model.quantise(x[:1], [Rng(2, int((~kept[:, 3]).nonzero()[0]))], training=True)
    assert torch.equal(short.total, model.features([part[:1] for part in short.labels[:2]]))
    labels, counts = model.quantise(x[:1]).labels, kept.sum(dim=0).numpy()
    far = [1.25 * ((model.features(labels[: k + 1]) - x[:1]) ** 2).mean().item() for k in range(4)]
    assert short.loss.total.item() == pytest.approx(np.mean(far[:2]), rel=1e-5), "over the scales that were kept"
    assert found.loss.total.item() == pytest.approx(counts @ far / counts.sum(), rel=1e-5)


def test_corrupt_labels_are_clean_and_later_ones_recomputed():
    model, x = pyramid(), latents(2, 3, *SIZES[-1])
    clean = model.quantise(x)

    def flip(k, labels):
        return 1 - labels if k == 1 else labels

    bad = model.corrupt(x, flip)
    assert torch.equal(bad.labels[0], clean.labels[0]) and torch.equal(bad.labels[1], clean.labels[1])
    assert torch.equal(bad.flipped[1], 1 - bad.labels[1]) and torch.equal(bad.flipped[2], bad.labels[2])
    assert not torch.equal(bad.labels[2], clean.labels[2]), "what is to be predicted repairs the flip"
    total = torch.zeros_like(x)
    for k in range(4):
        assert torch.equal(bad.inputs[k], model.seen(total, k))
        want = model.quantiser.quantise(model.down(x - total, k).movedim(1, -1)).labels
        assert torch.equal(bad.labels[k], want)
        total = model.accumulate(total, bad.flipped[k], k)
    assert torch.equal(bad.total, total) and torch.equal(bad.total, model.decode(bad.flipped))
    assert not bad.inputs[0].any() and torch.equal(bad.inputs[1], model.down(model.features(clean.labels[:1]), 1))


def test_corruption_by_hand():
    model, x = pyramid(BSQConfig(channels=1), sizes=((1, 1, 1),) * 3), torch.full((1, 1, 1, 1, 1), 0.3)
    # codes are -1 and 1. Clean: 0.3 -> 1, F = 1; -0.7 -> 0, F = 0; 0.3 -> 1
    assert [int(part) for part in model.quantise(x).labels] == [1, 0, 1]
    # first bit flipped, F = -1: 1.3 -> 1, F = 0; 0.3 -> 1, F = 1
    bad = model.corrupt(x, lambda k, labels: labels if k else 1 - labels)
    assert [int(part) for part in bad.labels] == [1, 1, 1] and [int(part) for part in bad.flipped] == [0, 1, 1]
    assert [float(part) for part in bad.inputs] == [0, -1, 0] and float(bad.total) == 1


def test_without_flips_corruption_is_teacher_forcing():
    model, x, rngs = pyramid(), latents(2, 3, *SIZES[-1]), [Rng(0, 0), Rng(0, 1)]
    clean, same = model.quantise(x), model.corrupt(x, random_flips(rngs, (2,) * 3, most=0.0))
    for k in range(4):
        assert torch.equal(same.labels[k], clean.labels[k]) and torch.equal(same.flipped[k], clean.labels[k])
        assert torch.equal(same.inputs[k], model.seen(model.features(clean.labels[:k]) if k else same.total, k))
    assert torch.equal(same.total, clean.total)


def test_flips_rise_with_the_frame_and_are_inherited():
    model, x, rngs = pyramid(), latents(2, 3, 3, 5, 6), [Rng(0, 0), Rng(0, 1)]
    rows, units = ms.frame_rows(rngs, 3, start=4)
    assert rows == [*rngs, *rngs, *rngs] and units == [4, 4, 5, 5, 6, 6]
    most = [0.0, 0.0, 0.2, 0.2, 0.9, 0.9]
    bad = model.corrupt(ms.fold_frames(x), random_flips(rows, (2,) * 3, most, units))
    total = ms.unfold_frames(bad.total, 2)
    clean = model.per_frame(x)
    changed = [sum((a != b)[2 * f : 2 * f + 2].sum() for a, b in zip(bad.labels, bad.flipped)) for f in range(3)]
    assert changed[0] == 0 and 0 < changed[1] < changed[2]
    assert torch.equal(total[:, :, 0], clean.total[:, :, 0]) and not torch.equal(total, clean.total)
    for b in range(2):
        for f in range(3):
            flip = random_flips(rngs[b : b + 1], (2,) * 3, most[2 * f], [4 + f])
            alone = model.corrupt(x[b : b + 1, :, f : f + 1], flip)
            assert torch.equal(alone.total[0, :, 0], total[b, :, f])
            for k in range(4):
                assert torch.equal(alone.labels[k][0], bad.labels[k][2 * f + b])
                assert torch.equal(alone.inputs[k][0], bad.inputs[k][2 * f + b])


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=lambda q: type(q).__name__)
def test_frame_by_frame_is_the_clip_in_bits(quantiser):
    phi = {"num_phi": 4, "beta": 0.25, "up": "bicubic"} if isinstance(quantiser, VQConfig) else {}
    model = pyramid(quantiser, p_drop=0.4, **phi).eval()
    for batch in (1, 2):
        x, rngs = latents(batch, 3, 5, 5, 6), [Rng(0, n) for n in range(batch)]
        whole = model.per_frame(x, rngs, training=True)
        assert whole.kept.shape == (batch, 5, 4) and not whole.kept.all()
        assert len({tuple(row) for row in whole.kept[0].tolist()}) > 1, "every frame draws for itself"
        for f in range(5):
            one = model.per_frame(x[:, :, f : f + 1], rngs, training=True, start=f)
            assert torch.equal(one.total, whole.total[:, :, f : f + 1])
            assert torch.equal(one.kept, whole.kept[:, f : f + 1])
            for k in range(4):
                assert torch.equal(one.labels[k], whole.labels[k][:, f : f + 1])
                assert whole.labels[k].shape == (batch, 5, *SIZES[k][1:], len(model.quantiser.classes))
            decoded = model.decode(one.labels, one.kept[:, 0])
            assert torch.equal(decoded, whole.total[:, :, f : f + 1])


def test_per_frame_equals_pyramids_of_single_frames():
    model, x = pyramid(), latents(2, 3, 4, 5, 6)
    whole = model.per_frame(x)
    for f in range(4):
        single = model.quantise(x[:, :, f : f + 1])
        assert torch.equal(single.total, whole.total[:, :, f : f + 1])
    assert torch.equal(ms.unfold_frames(ms.fold_frames(x), 2), x)
    assert torch.equal(ms.fold_frames(x)[3], x[1, :, 1:2])


def test_image_and_clips_stream_and_joint_growth_does_not():
    """An image and clips of 3 frames, a pyramid each; one pyramid whose time axis grows too reads every frame."""
    sides = ((1, 1), (3, 2), (5, 6))
    image, clip, joint = still(sides), still(sides, 3), ((1, 1, 1), (3, 3, 2), (8, 5, 6))
    model, x = pyramid(sizes=image), latents(1, 3, 8, 5, 6)

    def run(video, *pieces):
        parts = video.split([sizes[-1][0] for sizes in pieces], dim=2)
        return torch.cat([model.at(sizes).quantise(part).total for sizes, part in zip(pieces, parts)], dim=2)

    later = torch.cat([x[:, :, :4], 9 - x[:, :, 4:]], dim=2)
    assert torch.equal(run(x, image, clip, clip, image)[:, :, :4], run(later, image, clip, clip, image)[:, :, :4])
    assert not torch.equal(run(x, joint)[:, :, :4], run(later, joint)[:, :, :4])
    grown = model.at(joint)
    assert torch.equal(grown.decode(grown.quantise(x).labels), grown.quantise(x).total)
    assert model.sizes == image, "a view leaves the original alone"
    shared = pyramid(QUANTISERS[0], sizes=image, num_phi=1, beta=0.25)
    assert [id(p) for p in shared.at(clip).parameters()] == [id(p) for p in shared.parameters()]


def test_low_precision_is_widened():
    model, x = pyramid(QUANTISERS[0], num_phi=1, beta=0.25), latents(1, 3, *SIZES[-1]).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        low = model.quantise(x)
        assert torch.equal(model.decode(low.labels), low.total)
    assert low.total.dtype == torch.float32 and torch.equal(low.total, model.quantise(x.float()).total)


def test_configs_survive_yaml():
    for quantiser in QUANTISERS:
        config = ms.MultiScaleConfig(quantiser=quantiser, sizes=SIZES)
        assert from_dict(to_dict(config)) == config


def test_errors_are_one_line():
    model, x = pyramid(), latents(2, 3, *SIZES[-1])
    message = r"^got latents of shape \[2, 3, 1, 5, 5\], but the last scale needs \[B, 3, 1, 5, 6\]$"
    with pytest.raises(UsageError, match=message):
        model.quantise(x[..., :5])
    labels = model.quantise(x).labels
    with pytest.raises(UsageError, match=r"^got labels of 3 scales, but decoding needs all 4$"):
        model.decode(labels[:3])
    with pytest.raises(UsageError, match=r"^got labels of 0 scales, but this pyramid has 4$"):
        model.features([])
    message = r"^labels of scale 1 have shape \[2, 1, 3, 4, 3\]; expected \[2, 1, 2, 3, 3\]$"
    with pytest.raises(UsageError, match=message):
        model.accumulate(x, labels[2], 1)
    with pytest.raises(UsageError, match=r"^label 2 of part 0 lies outside 0 to 1$"):
        model.accumulate(x, torch.full_like(labels[1], 2), 1)
    with pytest.raises(UsageError, match=r"^training that drops scales needs one Rng per row, 2, not 0$"):
        pyramid(p_drop=0.1).quantise(x, training=True)
    with pytest.raises(UsageError, match=r"^pyramids of single frames need t = 1 at every scale, not \[1, 2\]$"):
        pyramid(sizes=((1, 1, 1), (2, 3, 3))).per_frame(latents(1, 3, 2, 3, 3))
    with pytest.raises(UsageError, match=r"sizes must go from coarse to fine, but \(1, 1, 3\) follows \(1, 2, 2\)"):
        pyramid(sizes=((1, 2, 2), (1, 1, 3)))
    with pytest.raises(UsageError, match=r"sizes needs at least one \(t, h, w\), all 1 or more"):
        pyramid(sizes=())
    with pytest.raises(UsageError, match="bicubic acts on single frames, but sizes change t; use up=trilinear"):
        pyramid(sizes=((1, 2, 2), (2, 2, 3)), up="bicubic")
    with pytest.raises(UsageError, match="phi convolutions learn only from the loss on the running sum; set beta"):
        pyramid(num_phi=1)
    with pytest.raises(UsageError, match="num_short 5 is more than the 4 scales"):
        pyramid(num_short=5)
