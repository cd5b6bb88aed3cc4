"""Two processes train what one would, through both stages."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

from mmskip.engine import WarmUpHook
from tests.helpers.ports import free_port
from tests.sof_net.nets import build_sof, data, samples, videos


def step(model, module, rank):
    inputs = module.data_preprocessor(data(videos(2, 3, seed=rank)))['inputs']
    losses = model(inputs, samples([0, 1]), mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    return {n: p.grad for n, p in module.named_parameters()}


def train(rank, port, answers):
    dist.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    module = build_sof().train()
    model = MMDistributedDataParallel(module, find_unused_parameters=True)
    module.warming_up = True
    grads = step(model, module, rank)
    unused = {n for n, g in grads.items() if g is None or not g.any()}
    module.zero_grad()
    module.warming_up = False
    torch.manual_seed(rank)
    grads = step(model, module, rank)
    total = {n: float(g.abs().sum()) for n, g in grads.items()}
    answers.put((rank, unused, total))
    dist.destroy_process_group()


@pytest.mark.skipif(
    'fork' not in multiprocessing.get_all_start_methods(),
    reason='new processes would import everything again',
)
def test_unused_policies_and_gradients_of_two_ranks():
    port = free_port()
    context = multiprocessing.get_context('fork')
    answers = context.Queue()
    workers = [
        context.Process(target=train, args=(rank, port, answers))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = sorted(answers.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    (_, unused, first), (_, _, second) = found
    assert unused == {n for n in first if n.startswith('policies.')}
    assert first == second
    assert all(value >= 0 for value in first.values())
    assert any(v > 0 for n, v in first.items() if n.startswith('policies.'))


class Wrapped(MMDistributedDataParallel):
    """A wrapper that needs no process group."""

    def __init__(self, module, find_unused_parameters):
        torch.nn.Module.__init__(self)
        self.module = module
        self.find_unused_parameters = find_unused_parameters


def test_the_hook_tells_what_to_set(monkeypatch):
    monkeypatch.setattr('mmskip.engine.hooks.check_epochs', lambda *_: None)
    module = torch.nn.Identity()
    module.warming_up = False
    runner = type('Runner', (), dict(model=Wrapped(module, False)))
    with pytest.raises(ValueError, match='find_unused_parameters=True'):
        WarmUpHook(1).before_train(runner)
    runner.model = Wrapped(module, True)
    WarmUpHook(1).before_train(runner)
