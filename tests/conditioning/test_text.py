"""Text: pooled and projected features against a slow loop; padding, bytes and hidden texts."""

import pytest
import torch

from vidar.conditioning.text import ByteEncoderConfig, GivenFeaturesConfig, Text, TextConfig, utf8
from vidar.core.layout import compile_layout
from vidar.core.step import single
from vidar.nn.backbone import BackboneConfig
from vidar.nn.mixers import CrossAttentionConfig, SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.orders.scale import scale_order
from vidar.types import UsageError

ORDER, GRID = scale_order([(1, 1, 1), (1, 2, 2)])
LAYOUT = compile_layout(single([0, 1]), ORDER, [GRID])
WIDTH, FEATURES, HEADS = 8, 12, 2


def conditioner(encoder=None, **changes):
    torch.manual_seed(0)
    encoder = encoder or GivenFeaturesConfig(width=FEATURES)
    made = TextConfig(encoder=encoder, width=WIDTH, memory_width=10, heads=HEADS, **changes).build().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def text(lengths=(3, 5), none=(False, False), seed=0):
    values = torch.randn(len(lengths), max(lengths), FEATURES, generator=torch.Generator().manual_seed(seed)).double()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Text(values, mask, torch.tensor(none))


def test_pooling_start_and_memory_by_hand():
    """One query per head over the real words; the memory is the projected words; the start stands on unit 0 alone."""
    model, record = conditioner(num_none=2), text()
    made = model(record, LAYOUT)
    for b, length in enumerate((3, 5)):
        rows = record.values[b, :length]
        rows = rows / rows.square().mean(1, keepdim=True).add(1e-6).sqrt()
        pooled = []
        for head in range(HEADS):
            part = slice(head * FEATURES // HEADS, (head + 1) * FEATURES // HEADS)
            k, v = (rows @ model.key_value.weight.T).chunk(2, 1)
            q = model.q_norm(model.query)[part]
            score = model.k_norm(k)[:, part] @ q / (FEATURES // HEADS) ** 0.5
            pooled.append(score.softmax(0) @ v[:, part])
        one = model.pooled(torch.cat(pooled))
        assert torch.allclose(made.modulation[b], one.expand(2, -1), atol=1e-12)
        assert torch.allclose(made.add[b, 0], model.start(one), atol=1e-12) and not made.add[b, 1:].any()
        words = model.second(torch.nn.functional.gelu(model.first(rows)))
        assert torch.allclose(made.memory[b, :length], words, atol=1e-12)
    assert torch.equal(made.memory_mask, record.mask)


@pytest.mark.parametrize("encoder", [None, ByteEncoderConfig(width=16, depth=2, heads=2)])
def test_padding_is_not_read(encoder):
    """A text gives the same alone, and padded beside a longer one; what stands in the padding does not matter."""
    model = conditioner(encoder)
    if encoder is None:
        both, alone = text((3, 9)), text((3, 9))
        junk = Text(both.values.masked_fill(~both.mask[..., None], 7.0), both.mask, both.none)
        alone = Text(both.values[:1, :3], both.mask[:1, :3], both.none[:1])
    else:
        both = Text(*utf8(["red", "a blue circle"], 64), torch.zeros(2, dtype=torch.bool))
        junk = Text(both.values.masked_fill(~both.mask, 65), both.mask, both.none)
        alone = Text(*utf8(["red"], 64), torch.zeros(1, dtype=torch.bool))
    first, second, one = (model(x, LAYOUT) for x in (both, junk, alone))
    for made in (first, second):
        assert torch.allclose(made.modulation[0], one.modulation[0], atol=1e-12)
        assert torch.allclose(made.memory[0, :3], one.memory[0, :3], atol=1e-12)
        assert made.memory_mask[0].sum() == 3
    assert (first.modulation[0] - first.modulation[1]).abs().max() > 1e-3


def test_bytes_are_read_in_order():
    """Through the rotation: the same bytes in another order are another text."""
    model = conditioner(ByteEncoderConfig(width=16, depth=2, heads=2))
    made = model(Text(*utf8(["abc", "cba", "abc"], 8), torch.zeros(3, dtype=torch.bool)), LAYOUT).modulation
    assert (made[0] - made[1]).abs().max() > 1e-3 and torch.allclose(made[0], made[2], atol=1e-12)


@pytest.mark.parametrize("encoder", [None, ByteEncoderConfig(width=16, depth=1, heads=2)])
@pytest.mark.parametrize("rows", [2, 6])
def test_a_hidden_text_is_the_learned_table(encoder, rows):
    """Whatever the text is, and however long; the table gets gradients, the hidden words none."""
    model = conditioner(encoder, num_none=rows)
    if encoder is None:
        one, two = text((3, 5), (True, True), 0), text((5, 4), (True, True), 1)
    else:
        hidden = torch.ones(2, dtype=torch.bool)
        one, two = Text(*utf8(["abc", "de"], 8), hidden), Text(*utf8(["hijkl", "x"], 8), hidden)
    a, b = model(one, LAYOUT), model(two, LAYOUT)
    for x, y in ((a.modulation[0], b.modulation[1]), (a.memory[0, :rows], b.memory[1, :rows])):
        assert torch.allclose(x, y, atol=1e-12)
    assert a.memory_mask.sum(1).tolist() == b.memory_mask.sum(1).tolist() == [rows, rows]
    (a.modulation.sum() + a.memory[a.memory_mask].sum()).backward()
    assert model.none.weight.grad.abs().sum() > 0
    assert all(not p.grad.any() for p in model.encoder.parameters() if p.grad is not None)


def test_slots_read_the_text_through_cross_attention():
    """Memory alone (no modulation, no start) changes every slot; hidden words of another row change none."""
    torch.manual_seed(1)
    net = BackboneConfig(width=WIDTH, depth=2, heads=2, head_width=4, in_width=3, out_width=5, memory_width=10,
                         mixers=(SelfAttentionConfig(), CrossAttentionConfig()),
                         rope=AxialRopeConfig(axes=("s", "y"))).build().double()  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model = conditioner()
    inputs = torch.randn(2, LAYOUT.num_slots, 3, dtype=torch.float64)

    def answers(record):
        made = model(record, LAYOUT)
        return net(inputs, LAYOUT, type(made)(memory=made.memory, memory_mask=made.memory_mask))

    plain, other = text(), text()
    other.values[1, 4] += 1.0
    moved = (answers(plain) - answers(other)).abs().amax(-1)
    assert not moved[0].any() and (moved[1] > 1e-6).all()


def test_prompts_that_cannot_be_read():
    with pytest.raises(UsageError, match="'' has 0 bytes; this model accepts 1 to 4"):
        utf8(["red", ""], 4)
    with pytest.raises(UsageError, match="'green' has 5 bytes"):
        utf8(["red", "green"], 4)
    values, mask = utf8(["\u00e9", "abc"], 4)
    assert values.tolist() == [[0xC3, 0xA9, 0], [97, 98, 99]] and mask.sum(1).tolist() == [2, 3]
    with pytest.raises(UsageError, match="needs the features"):
        conditioner()(Text(values, mask, torch.zeros(2, dtype=torch.bool)), LAYOUT)
    with pytest.raises(UsageError, match="needs the bytes"):
        conditioner(ByteEncoderConfig(width=16, heads=2))(text(), LAYOUT)
    with pytest.raises(UsageError, match="cannot be split into 5 heads"):
        TextConfig(encoder=GivenFeaturesConfig(width=12), width=8, memory_width=8, heads=5)
