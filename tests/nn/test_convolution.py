import pytest
import torch
from torch.nn import functional as F

from vidar.nn.convolution import ConvEmbedConfig, ConvHeadConfig
from vidar.nn.precision import fast_dtype
from vidar.types import UsageError

ROWS = torch.randn(1, 3, 10, generator=torch.Generator().manual_seed(3))  # three pictures


def embed(depth=1):
    torch.manual_seed(0)
    net = ConvEmbedConfig(rows=2, columns=3, patch=2, channels=4, depth=depth).build(8, 10)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def test_cells_and_sites_are_inverse_and_lie_as_in_a_picture():
    config = ConvEmbedConfig(rows=2, columns=3, patch=2)
    sites = torch.randn(2, 18, 8)
    cells = config.cells(sites)
    assert cells.shape == (6, 4, 6, 2) and torch.equal(config.sites(cells, 2), sites)
    # picture 4 = clip 1, picture 1; cell row 3, column 2 = site row 1, column 1, inside (1, 0)
    assert torch.equal(cells[4, 3, 2], sites[1, 6 + 1 * 3 + 1].view(2, 2, 2)[:, 1, 0])


def test_embedding_equals_a_picture_at_a_time():
    """Pictures stay apart, each with the modulation of its first slot, however rows are told."""
    net, x = embed(), torch.randn(2, 18, 8)
    whole = net(x, ROWS, None)
    for g in range(3):
        alone = net(x[:, 6 * g : 6 * g + 6], ROWS[:, g : g + 1], None)
        assert torch.allclose(whole[:, 6 * g : 6 * g + 6], alone, atol=1e-5)
    by_slot = torch.arange(3).repeat_interleave(6)
    assert torch.allclose(net(x, ROWS, by_slot), whole, atol=1e-5)
    assert torch.allclose(net(x, ROWS[:, by_slot], None), whole, atol=1e-5)


def test_stem_is_a_convolution_over_the_borders_of_sites():
    net, x = embed(depth=0), torch.randn(1, 6, 8)
    picture = net.config.cells(x).permute(0, 3, 1, 2)
    slow = F.conv2d(picture, net.stem.weight, net.stem.bias, padding=1)
    slow = net.map(net.config.sites(slow.permute(0, 2, 3, 1), 1))
    assert torch.allclose(net(x, ROWS[:, :1], None), slow, atol=1e-5)
    near = torch.autograd.functional.jacobian(lambda v: net(v, ROWS[:, :1], None)[0, 0].sum(), x)[0].abs().sum(-1)
    assert near[1] > 0 and near[2] == 0  # one site away, not two


def test_head_starts_at_zero_and_reads_its_own_picture():
    torch.manual_seed(0)
    head = ConvHeadConfig(rows=2, columns=3, channels=4, depth=1).build(10, 8, 0.3)
    x = torch.randn(2, 3, 6, 10)
    assert head(x, ROWS, None).shape == (2, 18, 8) and not head(x, ROWS, None).any()
    torch.nn.init.normal_(head.out.weight)
    other = x.clone()
    other[:, 1] += 1
    moved = (head(other, ROWS, None) != head(x, ROWS, None)).unflatten(1, (3, 6)).any(-1).any(-1)
    assert moved.tolist() == [[False, True, False]] * 2


def test_what_is_no_picture_is_refused():
    with pytest.raises(UsageError, match="do not fill whole images of 2 x 3"):
        embed()(torch.randn(1, 7, 8), ROWS, None)
    with pytest.raises(ValueError, match="cannot be divided into patches"):
        ConvEmbedConfig(rows=2, columns=3).build(7, 10)
    with pytest.raises(ValueError, match="cannot be divided into patches"):
        ConvHeadConfig(rows=2, columns=3).build(10, 7, 0.0)


@pytest.mark.parametrize(
    "has, dtype", [("amx_bf16", torch.bfloat16), ("avx512_bf16", torch.bfloat16), ("avx512_f", torch.float32)]
)
def test_bf16_where_the_cpu_has_it(monkeypatch, has, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True})
    assert fast_dtype() == dtype and fast_dtype("cuda") == torch.bfloat16
