"""What a layer of ours shares: a binding, a ledger, and clean copies."""

from typing import Any

from torch import nn


class SelfCounting(nn.Module):
    """A layer that may run under a binding and reports its own MACs.

    ``_binding`` (set by ``stream`` and ``clip``) and ``_ledger`` (set by
    ``count_macs``) are there only inside those blocks; copies and pickles of
    the layer leave them behind.
    """

    _binding: Any = None
    _ledger: Any = None

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state.pop('_binding', None)
        state.pop('_ledger', None)
        return state
