"""The mode in which torch is, in this thread."""

import torch


def is_exact_inference() -> bool:
    """Whether neither gradients are wanted nor the precision of autocast.

    The native backend has neither.
    """
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled('cpu'))


def is_in_backward() -> bool:
    """Whether autograd is running a backward."""
    return torch._C._current_graph_task_id() != -1
