"""Run a network over a video and keep all that can be compared."""

import torch

import mmskip


def flat(output):
    """The tensors of an output, as one list of copies."""
    if isinstance(output, torch.Tensor):
        return [output.clone()]
    if output is None:
        return []
    return [tensor for part in output for tensor in flat(part)]


def same(left, right):
    """Whether two outputs are equal bit for bit."""
    pairs = zip(flat(left), flat(right), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@torch.no_grad()
def run_stream(net, video, state=None):
    """Outputs frame by frame, and the ledger."""
    with mmskip.count_macs(net) as macs, mmskip.stream(net, state):
        return [flat(net(x)) for x in video], macs


@torch.no_grad()
def run_clip(net, video):
    """The same, with all frames (B, C, ...) of B videos in one batch."""
    batch = torch.stack(video, 1).flatten(0, 1)
    with mmskip.count_macs(net) as macs, mmskip.clip(net, len(video)):
        tensors = flat(net(batch))
    folded = [t.unflatten(0, (-1, len(video))) for t in tensors]
    return [[f[:, t] for f in folded] for t in range(len(video))], macs


@torch.no_grad()
def run_dense(net, video):
    """The outputs without stream or clip, and the ledger."""
    with mmskip.count_macs(net) as macs:
        return [flat(net(x)) for x in video], macs
