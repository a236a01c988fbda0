"""Latents as sites and back."""

import pytest
import torch

from vidar.tokenizers.patch import from_sites, to_sites
from vidar.types import UsageError


@pytest.mark.parametrize("patch", [1, 2])
def test_sites_are_an_exact_inverse_and_frame_major(patch):
    latent = torch.arange(2 * 3 * 2 * 4 * 6).reshape(2, 3, 2, 4, 6)
    sites = to_sites(latent, patch)
    rows, columns = 4 // patch, 6 // patch
    assert sites.shape == (2, 2 * rows * columns, 3 * patch * patch)
    assert torch.equal(from_sites(sites, (2, 4, 6), patch), latent)
    t, y, x = 1, rows - 1, 1
    site = sites[1, (t * rows + y) * columns + x]
    block = latent[1, :, t, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
    assert torch.equal(site, block.flatten())


def test_patches_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="3x4 cannot be divided into patches of 2"):
        to_sites(torch.zeros(1, 1, 1, 3, 4), 2)
    with pytest.raises(UsageError, match="cannot be divided"):
        from_sites(torch.zeros(1, 3, 4), (1, 3, 4), 2)
