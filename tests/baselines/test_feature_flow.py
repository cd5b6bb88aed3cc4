"""Deep Feature Flow: what runs, what is warped, what it costs."""

import copy
import pickle

import pytest
import torch
from mmengine.hub import get_config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

import mmskip
from mmskip.baselines import feature_flow, use_feature_flow, use_keyframes
from tests.hosts.host import without_downloads
from tests.models.retinanet import config

pytest.importorskip('mmdet')

from mmdet.models import RetinaNet
from mmengine.structures import InstanceData

from tests.models.videos import SIZE, batch, build, frame, run, same

# Of the warp, per frame: 3 levels of 8 channels, at 4 MACs per value.
WARP = 4 * 8 * (8 * 8 + 4 * 4 + 2 * 2)


@pytest.fixture(autouse=True)
def _mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def flow_config(interval=3, **keys):
    stock = config()
    return dict(
        stock,
        type='mmskip.FeatureFlowModel',
        arch=stock['type'],
        interval=interval,
        **keys,
    )


def counted(cfg, *batches):
    model = build(cfg)
    with mmskip.count_macs(model) as macs:
        run(model, *batches)
    return macs


def heads_share(macs, column):
    return sum(
        getattr(count, column)
        for name, count in macs.by_module().items()
        if name.startswith('bbox_head')
    )


def test_backbone_runs_on_key_frames_and_the_head_on_all():
    frames = [batch(frame(0, i)) for i in range(7)]
    dense, _ = run(build(config()), *copy.deepcopy(frames))
    model = build(flow_config(interval=3))
    heads = []
    model.bbox_head.register_forward_hook(lambda *_: heads.append(1))
    found, seen = run(model, *frames)
    assert seen == [1, 1, 1]
    assert len(heads) == 7
    for index in range(7):
        assert same(found[index], dense[index]) == (index % 3 == 0)


def test_interval_one_is_the_model_itself():
    frames = [batch(frame(0, i), frame(1, i)) for i in range(3)]
    dense, _ = run(build(config()), *copy.deepcopy(frames))
    found, seen = run(build(flow_config(interval=1)), *frames)
    assert seen == [2, 2, 2]
    assert all(same(found[img_id], dense[img_id]) for img_id in dense)


def test_frames_like_the_key_frame_give_its_result():
    image, _ = frame(0, 0)
    frames = [batch((image, frame(0, i)[1])) for i in range(4)]
    found, seen = run(build(flow_config(interval=4)), *frames)
    assert seen == [1]
    assert all(same(found[i], found[0]) for i in range(4))


def test_the_head_sees_the_features_of_the_key_frame_moved(monkeypatch):
    monkeypatch.setattr(
        feature_flow,
        'dis_flow',
        lambda *_: (
            torch.tensor([8.0, 0]).view(1, 2, 1, 1).expand(-1, -1, SIZE, SIZE)
        ),
    )
    model = build(flow_config(interval=3))
    heads = []
    model.bbox_head.register_forward_hook(
        lambda module, inputs, output: heads.append(inputs[0])
    )
    run(model, *(batch(frame(0, i)) for i in range(3)))
    key, second, third = (levels[0] for levels in heads)
    assert torch.equal(second[..., :-1], key[..., 1:])
    # The key frame's again, not those of the frame before.
    assert torch.equal(third, second)


def test_a_new_video_begins_with_a_key_frame():
    order = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3), (0, 0)]
    frames = [batch(frame(*o)) for o in order]
    dense, _ = run(build(config()), *copy.deepcopy(frames))
    found, seen = run(build(flow_config(interval=3)), *frames)
    assert len(seen) == 4
    assert all(same(found[i], dense[i]) for i in (0, 100, 103))


@pytest.mark.parametrize('size', [2, 3, 5])
def test_a_batch_of_consecutive_frames_gives_the_same(size):
    order = [(0, i) for i in range(7)] + [(1, i) for i in range(3)]
    one_by_one, seen = run(
        build(flow_config(interval=4)), *(batch(frame(*o)) for o in order)
    )
    batches = [
        batch(*(frame(*o) for o in order[i : i + size]))
        for i in range(0, len(order), size)
    ]
    together, seen_together = run(build(flow_config(interval=4)), *batches)
    assert sum(seen) == sum(seen_together) == 3
    for img_id, prediction in one_by_one.items():
        assert torch.allclose(
            prediction.bboxes, together[img_id].bboxes, atol=1e-3
        )


def test_a_head_that_works_in_place_does_not_change_what_is_kept():
    image, _ = frame(0, 0)
    frames = [batch((image, frame(0, i)[1])) for i in range(3)]
    model = build(flow_config(interval=4))
    model.bbox_head.register_forward_hook(
        lambda module, inputs, output: (
            [level.zero_() for level in inputs[0]] and None
        )
    )
    found, _ = run(model, *frames)
    assert all(same(found[i], found[0]) for i in (1, 2))


@pytest.mark.parametrize('restart', ['eval', 'train', 'first frame again'])
def test_every_run_over_a_video_begins_with_a_key_frame(restart):
    model = build(flow_config(interval=4))
    run(model, batch(frame(0, 0)), batch(frame(0, 1)))
    index = 2
    if restart == 'first frame again':
        index = 0
    else:
        getattr(model, restart)()
        model.eval()
    _, seen = run(model, batch(frame(0, index)))
    assert seen == [1]


def test_it_is_the_model_with_its_checkpoint():
    stock, flowing = build(config()), build(flow_config())
    assert isinstance(flowing, RetinaNet)
    assert list(stock.state_dict()) == list(flowing.state_dict())
    flowing.load_state_dict(stock.state_dict())


def test_training_is_unaffected():
    losses = []
    for cfg in (config(), flow_config()):
        model = build(cfg).train()
        optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
        for index in range(2):
            image, sample = frame(0, index, batch_input_shape=(SIZE, SIZE))
            sample.gt_instances = InstanceData(
                bboxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
                labels=torch.tensor([1]),
            )
            losses.append(model.train_step(batch((image, sample)), optim))
    assert losses[:2] == losses[2:]


def test_direct_calls_are_the_model_s_own():
    model, stock = build(flow_config(interval=4)), build(config())
    run(model, batch(frame(0, 0)))
    data = model.data_preprocessor(batch(frame(0, 1)))
    with torch.no_grad():
        ours, theirs = (
            m(data['inputs'], mode='tensor') for m in (model, stock)
        )
    assert torch.equal(ours[0][0], theirs[0][0])


def test_an_error_leaves_the_model_as_it_was():
    model = build(flow_config(interval=3))
    handle = model.bbox_head.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match='test'):
        run(model, batch(frame(0, 0)))
    handle.remove()
    _, seen = run(model, batch(frame(0, 1)))
    assert seen == [1]
    assert model.due_features is None


def fail(*_):
    raise ValueError('test')


@pytest.mark.parametrize('duplicate', [copy.deepcopy, 'pickle'])
def test_copies_work_and_forget_the_video(duplicate):
    if duplicate == 'pickle':

        def duplicate(model):
            return pickle.loads(pickle.dumps(model))

    model = build(flow_config(interval=4))
    run(model, batch(frame(0, 0)))
    twin = duplicate(model)
    assert type(twin) is type(model)
    _, seen = run(twin, batch(frame(0, 1)), batch(frame(0, 2)))
    assert seen == [1]


@pytest.mark.parametrize('size', [1, 2, 4, 7])
def test_what_did_not_run_costs_nothing_but_the_warp(size):
    order = [(0, i) for i in range(5)] + [(1, i) for i in range(2)]
    frames = [
        batch(*(frame(*o) for o in order[i : i + size]))
        for i in range(0, len(order), size)
    ]
    dense = counted(config(), *copy.deepcopy(frames))
    macs = counted(flow_config(interval=3), *frames)
    keys, between = 3, 4
    assert macs.frames == dense.frames == 7
    for name, count in dense.by_module().items():
        assert macs.by_module()[name].dense == count.dense
    head = heads_share(dense, 'dense')
    rest = dense.total().dense - head
    assert heads_share(macs, 'executed') == head
    assert macs.total().executed == head + rest // 7 * keys
    assert macs.total().overhead == between * WARP
    assert macs.uncounted() == {'DIS optical flow': between}


def test_the_first_layers_macs_are_those_of_key_frames():
    macs = counted(flow_config(), *(batch(frame(0, i)) for i in range(4)))
    # 7x7 from 3 to 8 channels at half of the resolution.
    stem = 7 * 7 * 3 * 8 * (SIZE // 2) ** 2
    count = macs.by_module()['backbone.conv1']
    assert (count.dense, count.executed) == (4 * stem, 2 * stem)


def test_counting_from_the_middle_of_a_video_tells_what_it_cannot_know():
    model = build(flow_config(interval=3))
    run(model, batch(frame(0, 0)))
    with mmskip.count_macs(model) as macs:
        run(model, batch(frame(0, 1)), batch(frame(0, 2)))
    assert macs.frames == 2
    assert macs.uncounted() == {
        'dense part, never run': 2,
        'DIS optical flow': 2,
    }


def test_a_change_of_size_within_a_video_is_refused():
    model = build(flow_config(interval=4))
    run(model, batch(frame(0, 0)))
    image, sample = frame(0, 1)
    with pytest.raises(ValueError, match=r'video 0, got \(64, 64\) and then'):
        run(model, batch((image[:, :32], sample)))


@pytest.mark.parametrize('interval', [0, -1])
def test_a_wrong_interval_is_refused(interval):
    with pytest.raises(ValueError, match=r'interval 1, 2, \.\.\.'):
        build(flow_config(interval=interval))


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="got 'slow'"):
        build(flow_config(preset='slow'))


def test_baselines_do_not_stack():
    with pytest.raises(ValueError, match='interval 4'):
        use_feature_flow(use_keyframes(build(config()), 4), 2)


def test_models_without_features_and_head_are_refused():
    two_stage = get_config(
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
    ).model
    with pytest.raises(TypeError, match='FasterRCNN without bbox_head; the'):
        use_feature_flow(build(without_downloads(two_stage)))
    with pytest.raises(TypeError, match='Linear without extract_feat'):
        use_feature_flow(torch.nn.Linear(1, 1))
