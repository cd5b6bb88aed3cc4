"""What one call site remembers between two frames."""

import torch

from mmskip.skip_conv import SkipMemory


def test_memory_fits_only_the_same_shape_and_dtype():
    x = torch.zeros(1, 2, 4, 4)
    memory = SkipMemory(x, torch.zeros(1, 8, 4, 4), torch.ones(()))

    assert memory.fits(torch.ones(1, 2, 4, 4))
    assert not memory.fits(torch.ones(1, 2, 4, 5))
    assert not memory.fits(torch.ones(2, 2, 4, 4))
    assert not memory.fits(x.double())
    assert not memory.fits(x.to('meta'))


def test_memory_knows_its_size_in_bytes():
    memory = SkipMemory(
        torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 4, 4), torch.ones(())
    )

    assert memory.nbytes == 4 * 16 * (2 + 8)
