"""Flags that users of the hosts set, one by one, on the hosts' backbones.

Each flag works, as an independent reference says, or is refused with what to
do instead. Every two of a host, a gate, a plan and a flag meet in some cell.
"""

import copy

import pytest
import torch
from mmengine.model import efficient_conv_bn_eval
from mmengine.runner import turn_on_activation_checkpointing
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import mmskip
from mmskip.native import library as native
from mmskip.plan import propagate_changes
from tests.helpers.pairwise import every_pair
from tests.hosts.flagged import (
    GATES,
    HOSTS,
    LACKS,
    Shown,
    assert_same_frame,
    assert_same_step,
    build,
    converted,
    freeze_by_hand,
    make_clip,
    make_video,
    norms,
    plain_frames,
    plain_step,
    skip_convs,
    train_step,
    twin,
)

pytestmark = [
    pytest.mark.filterwarnings('ignore:.*use_reentrant'),
    pytest.mark.filterwarnings('ignore:Skip-Convolutions run on'),
]
#: For what no host does in a way of its own.
SOME_HOSTS = ('ResNet', 'CSPNeXt', 'X3D')
#: 3-D convolutions run on the reference, unplanned.
UNPLANNED = {'ResNet3d', 'X3D'}
#: mmengine cannot trace them.
UNTRACED = {'ResNet3d', 'X3D'}
#: They have no ConvModule.
WITHOUT_MODULES = {'ResNet', 'HRNet'}
some_hosts = pytest.mark.parametrize('host', SOME_HOSTS)
some_hosts_and_gates = every_pair('host,gate', SOME_HOSTS, GATES)


def can_be_planned(host, gate, planned, *_):
    return not (planned and host in UNPLANNED)


def planned_or_not(hosts, name=None, values=()):
    """A host, a gate and a plan or none, with one more argument if named."""
    axes = (hosts, GATES, (False, True), *([values] if name else []))
    names = ','.join(('host', 'gate', 'planned', *([name] if name else [])))
    return every_pair(names, *axes, valid=can_be_planned)


@pytest.fixture(scope='module')
def _one_process(tmp_path_factory):
    """A process group of one."""
    file = tmp_path_factory.mktemp('group') / 'store'
    distributed.init_process_group(
        'gloo', init_method=f'file://{file}', rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def _gradients():
    with torch.enable_grad():
        yield


def checkpointed(model, host):
    turn_on_activation_checkpointing(model, f'backbone.{HOSTS[host][3]}')
    return model


def half_in_eval(model):
    """What a user may do to keep a part as it is."""
    parts = list(model.backbone.children())
    for part in parts[: len(parts) // 2]:
        part.eval().requires_grad_(False)


TRAINED = {
    'frozen_stages': dict(frozen_stages=1),
    'norm_eval': dict(norm_eval=True),
    'with_cp': dict(with_cp=True),
    'activation_checkpointing': {},
}


@every_pair(
    'host,gate,flag',
    HOSTS,
    GATES,
    TRAINED,
    valid=lambda host, gate, flag: host not in LACKS.get(flag, ()),
)
def test_training_with_a_flag_is_that_without(host, gate, flag):
    flagged = build(host, gate, **TRAINED[flag]).train()
    if not TRAINED[flag]:
        checkpointed(flagged, host)
    clip = make_clip(host)

    step = train_step(flagged, clip)

    assert step[2] == len(skip_convs(flagged))
    if flag in ('frozen_stages', 'norm_eval'):
        plain = build(host, gate).train()
        frozen = freeze_by_hand(plain, flagged)
        assert bool(frozen) == (flag == 'frozen_stages')
        assert_same_step(step, train_step(plain, clip), frozen)
    else:
        assert_same_step(step, plain_step(host, gate))


@some_hosts_and_gates
def test_training_a_model_that_is_half_in_eval_mode(host, gate):
    model, plain = build(host, gate).train(), build(host, gate).train()
    half_in_eval(model)
    frozen = freeze_by_hand(plain, model)
    clip = make_clip(host)

    assert frozen
    assert_same_step(train_step(model, clip), train_step(plain, clip), frozen)


@some_hosts_and_gates
@pytest.mark.usefixtures('_one_process')
def test_training_in_a_distributed_wrapper(host, gate):
    model = build(host, gate)
    wrapped = DistributedDataParallel(model).train()

    step = train_step(model, make_clip(host), wrapped)

    assert_same_step(step, plain_step(host, gate))


@some_hosts_and_gates
def test_training_under_autocast(host, gate):
    clip = make_clip(host)
    model = build(host, gate).train()
    exact, *_ = plain_step(host, gate)

    with torch.autocast('cpu', torch.bfloat16):
        losses, grads, costs = train_step(model, clip)

    assert costs == len(skip_convs(model))
    assert all(g is not None and g.isfinite().all() for g in grads.values())
    # Draws differ where scores are rounded.
    for name, loss in losses.items():
        assert abs(loss - exact[name]) < 0.1 * exact[name].abs()


@some_hosts
def test_weights_averaged_between_steps_are_what_gates_learn_from(host):
    clip = make_clip(host)
    model = build(host, 'gumbel').train()
    train_step(model, clip)
    with torch.no_grad():
        model.eval()(clip)
        for p in model.parameters():
            p.data.mul_(0.9)
    fresh = build(host, 'gumbel').train()
    fresh.load_state_dict(copy.deepcopy(model.state_dict()))

    assert_same_step(train_step(model.train(), clip), train_step(fresh, clip))


@pytest.mark.parametrize('host', sorted({*HOSTS} - UNTRACED))
def test_fused_convolutions_and_norms_are_refused(host):
    model = build(host)
    efficient_conv_bn_eval.turn_on_efficient_conv_bn_eval(model, 'backbone')

    with pytest.raises(ValueError, match='efficient_conv_bn_eval=False'):
        converted(model, 'norm')


@every_pair('host,gate', sorted({*HOSTS} - WITHOUT_MODULES), GATES)
def test_what_is_fused_after_the_conversion_is_refused(host, gate):
    model = build(host, gate)
    modules = [
        m
        for m in model.modules()
        if hasattr(m, 'turn_on_efficient_conv_bn_eval')
        and m.with_norm
        and m.conv in skip_convs(model)
    ]
    modules[0].turn_on_efficient_conv_bn_eval()

    for enter in (mmskip.stream, lambda m: mmskip.clip(m, 2)):
        with pytest.raises(ValueError, match='would never skip'), enter(model):
            pass


@some_hosts
@pytest.mark.usefixtures('_one_process')
def test_gates_that_a_wrapper_would_not_share_are_refused(host):
    wrapped = DistributedDataParallel(build(host).train())

    with pytest.raises(ValueError, match='first, then wrap'):
        converted(wrapped, 'gumbel')


def planned_model(model, planned):
    """A model that runs as a plan, if it is asked for."""
    if planned:
        if native.MISSING:
            pytest.skip(native.MISSING)
        propagate_changes(model)
    return model


@planned_or_not(HOSTS, 'checkpoints', (False, True))
def test_a_stream_with_flags_is_that_of_the_reference_without(
    host, gate, planned, checkpoints
):
    flags = dict(frozen_stages=1, norm_eval=True, with_cp=True, norm='SyncBN')
    flags = {k: v for k, v in flags.items() if host not in LACKS.get(k, ())}
    flags = {} if checkpoints else flags
    model = planned_model(build(host, gate, **flags), planned)
    model = checkpointed(model, host) if checkpoints else model

    assert_streams(Shown(model), host, gate)


def assert_streams(shown, host, gate):
    """Frames are those of the model without flags."""
    expected = plain_frames(host, gate)
    for x, frame in zip(make_video(host)[:3], expected, strict=True):
        assert_same_frame(shown.show(x), frame)


def show_both(found, plain, x):
    """A frame of a model, and of one on the reference backend."""
    result = found.show(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSKIP_BACKEND', 'reference')
        return result, plain.show(x)


@planned_or_not(SOME_HOSTS, 'inside', (False, True))
@pytest.mark.usefixtures('_one_process')
def test_a_stream_of_a_wrapped_model(host, gate, planned, inside):
    model = planned_model(build(host, gate), planned)
    wrapped = DistributedDataParallel(model).eval()

    assert_streams(Shown(model if inside else wrapped), host, gate)


def flip(shown):
    for mode in (True, False):
        shown.root.train(mode)


def half_train(shown):
    for norm in norms(shown.root)[::2]:
        norm.train()


@planned_or_not(SOME_HOSTS, 'change', (flip, half_train))
def test_modes_that_flip_in_mid_stream(host, gate, planned, change):
    model = build(host, gate)
    plain = Shown(twin(model))
    found = Shown(planned_model(model, planned))

    for index, x in enumerate(make_video(host)):
        if index == 2:
            change(found)
            change(plain)
        assert_same_frame(*show_both(found, plain, x))


@planned_or_not(SOME_HOSTS)
def test_a_stream_under_autocast_is_that_of_the_reference(host, gate, planned):
    model = build(host, gate)
    plain = Shown(twin(model))
    found = Shown(planned_model(model, planned))

    for index, x in enumerate(make_video(host, 5)):
        # In and out of it, as code that is shared with training may go.
        on = index in (1, 2)
        with torch.autocast('cpu', torch.bfloat16, enabled=on):
            frames = show_both(found, plain, x)
        assert_same_frame(*frames)
        assert (frames[0][0][-1].dtype == torch.bfloat16) == on


def scaled(model, inplace):
    """Other weights than before, all of them, also of the gates."""
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                inplace(module, name, p)


WRITES = {
    'past the counter': lambda m, n, p: p.data.mul_(0.9),
    'parameter': lambda m, n, p: setattr(m, n, nn.Parameter(0.9 * p)),
}


@planned_or_not(SOME_HOSTS, 'write', WRITES)
def test_weights_that_change_in_mid_stream_start_a_new_one(
    host, gate, planned, write
):
    model = build(host, gate)
    found = Shown(planned_model(model, planned))
    video = make_video(host)
    for x in video[:2]:
        found.show(x)

    with torch.no_grad():
        scaled(model, WRITES[write])

    fresh = Shown(twin(model))
    for x in video[2:]:
        assert_same_frame(*show_both(found, fresh, x))
    assert found.state.weight_changes == len(found.state.slots)


@planned_or_not(SOME_HOSTS, 'dtype', (torch.bfloat16, torch.float64))
def test_another_precision_in_mid_stream_starts_a_new_one(
    host, gate, planned, dtype
):
    model = build(host, gate)
    found = Shown(planned_model(model, planned))
    video = make_video(host)
    for x in video[:2]:
        found.show(x)

    model.to(dtype)

    fresh = Shown(twin(model))
    for x in video[2:]:
        assert_same_frame(*show_both(found, fresh, x.to(dtype)))
