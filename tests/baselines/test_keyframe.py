"""The frame-skip baseline: what runs, what is repeated, what stays."""

import copy
import pickle

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

import mmskip
from mmskip.baselines import use_keyframes
from tests.models.retinanet import config

pytest.importorskip('mmdet')

from mmdet.models import RetinaNet
from mmengine.structures import InstanceData

from tests.models.videos import SIZE, batch, build, frame, run, same


@pytest.fixture(autouse=True)
def _mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def keyframe_config(interval=3, **keys):
    stock = config()
    return dict(
        stock,
        type='mmskip.KeyframeModel',
        arch=stock['type'],
        interval=interval,
        **keys,
    )


def test_key_frames_run_and_the_others_repeat_them():
    frames = [batch(frame(0, i)) for i in range(7)]
    dense, _ = run(build(config()), *copy.deepcopy(frames))
    found, seen = run(build(keyframe_config(interval=3)), *frames)
    assert seen == [1, 1, 1]
    for index in range(7):
        assert same(found[index], dense[index - index % 3])
    assert not same(dense[0], dense[1])


def test_interval_one_is_the_model_itself():
    frames = [batch(frame(0, i)) for i in range(3)]
    dense, _ = run(build(config()), *copy.deepcopy(frames))
    found, seen = run(build(keyframe_config(interval=1)), *frames)
    assert seen == [1, 1, 1]
    assert all(same(found[i], dense[i]) for i in range(3))


def test_a_new_video_begins_with_a_key_frame():
    order = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3), (0, 0)]
    found, seen = run(
        build(keyframe_config(interval=3)), *(batch(frame(*o)) for o in order)
    )
    assert len(seen) == 4
    assert same(found[101], found[100])
    assert not same(found[100], found[1])


@pytest.mark.parametrize('size', [2, 3, 5])
def test_a_batch_of_consecutive_frames_gives_the_same(size):
    order = [(0, i) for i in range(7)] + [(1, i) for i in range(3)]
    one_by_one, seen = run(
        build(keyframe_config(interval=4)), *(batch(frame(*o)) for o in order)
    )
    batches = [
        batch(*(frame(*o) for o in order[i : i + size]))
        for i in range(0, len(order), size)
    ]
    together, seen_together = run(build(keyframe_config(interval=4)), *batches)
    assert sum(seen) == sum(seen_together) == 3
    for img_id, prediction in one_by_one.items():
        assert torch.allclose(
            prediction.bboxes, together[img_id].bboxes, atol=1e-3
        )


def test_results_are_not_shared_between_frames():
    model = build(keyframe_config(interval=4))
    first, _ = run(model, batch(frame(0, 0)))
    kept = first[0].bboxes.clone()
    first[0].bboxes.zero_()
    second, _ = run(model, batch(frame(0, 1)))
    assert torch.equal(second[1].bboxes, kept)
    second[1].bboxes.zero_()
    third, _ = run(model, batch(frame(0, 2)))
    assert torch.equal(third[2].bboxes, kept)


def test_repeated_frames_keep_their_own_meta_information():
    model = build(keyframe_config(interval=2))
    model.test_step(batch(frame(0, 0)))
    (sample,) = model.test_step(batch(frame(0, 1, img_path='b.jpg')))
    assert (sample.img_id, sample.frame_id) == (1, 1)
    assert sample.img_path == 'b.jpg'
    assert isinstance(sample.pred_instances, InstanceData)


@pytest.mark.parametrize('restart', ['eval', 'train', 'first frame again'])
def test_every_run_over_a_video_begins_with_a_key_frame(restart):
    model = build(keyframe_config(interval=4))
    run(model, batch(frame(0, 0)), batch(frame(0, 1)))
    index = 2
    if restart == 'first frame again':
        index = 0
    else:
        getattr(model, restart)()
        model.eval()
    _, seen = run(model, batch(frame(0, index)))
    assert seen == [1]


def test_val_step_is_the_same():
    model = build(keyframe_config(interval=2))
    with torch.no_grad():
        (first,) = model.val_step(batch(frame(0, 0)))
        (second,) = model.val_step(batch(frame(0, 1)))
    assert same(first.pred_instances, second.pred_instances)


def test_the_folder_tells_the_video_if_the_key_says_so():
    model = build(keyframe_config(interval=4, video_key='img_path'))
    paths = ['a/1.jpg', 'a/2.jpg', 'b/1.jpg']
    _, seen = run(
        model,
        *(
            batch(frame(0, i, video_id=None, frame_id=None, img_path=path))
            for i, path in enumerate(paths)
        ),
    )
    assert len(seen) == 2


def test_it_is_the_model_with_its_checkpoint():
    stock, skipping = build(config()), build(keyframe_config())
    assert isinstance(skipping, RetinaNet)
    assert list(stock.state_dict()) == list(skipping.state_dict())
    skipping.load_state_dict(stock.state_dict())


def test_training_is_unaffected():
    losses = []
    for cfg in (config(), keyframe_config()):
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
    model = build(keyframe_config(interval=4))
    data = model.data_preprocessor(batch(frame(0, 0)))
    with torch.no_grad():
        for _ in range(2):
            assert len(model(**data, mode='tensor')) == 2
            assert len(model(**data, mode='predict')) == 1


@pytest.mark.parametrize('duplicate', [copy.deepcopy, 'pickle'])
def test_copies_work_and_forget_the_video(duplicate):
    if duplicate == 'pickle':

        def duplicate(model):
            return pickle.loads(pickle.dumps(model))

    model = build(keyframe_config(interval=4))
    run(model, batch(frame(0, 0)))
    twin = duplicate(model)
    assert type(twin) is type(model)
    found, seen = run(twin, batch(frame(0, 1)), batch(frame(0, 2)))
    assert seen == [1]
    assert same(found[1], found[2])


def test_skipped_frames_count_and_cost_nothing():
    frames = [batch(frame(0, i)) for i in range(6)]
    model = build(config())
    with mmskip.count_macs(model) as dense:
        run(model, *copy.deepcopy(frames))
    model = use_keyframes(model, interval=3)
    with mmskip.count_macs(model) as macs:
        run(model, *frames)
    assert (dense.frames, macs.frames) == (6, 6)
    assert macs.total().dense == dense.total().dense
    assert macs.total().executed * 3 == dense.total().executed


def test_a_change_of_size_within_a_video_is_refused():
    model = build(keyframe_config(interval=4))
    run(model, batch(frame(0, 0)))
    with pytest.raises(ValueError, match=r'ori_shape \(64, 64\) and then'):
        run(model, batch(frame(0, 1, ori_shape=(32, 32))))


def test_samples_that_do_not_tell_their_video_are_refused():
    model = build(keyframe_config())
    path = 'val2017/1.jpg'
    with pytest.raises(ValueError, match=r"'video_id' in.*add it to"):
        run(model, batch(frame(0, 0, video_id=None, img_path=path)))


def test_frame_ids_may_be_texts():
    model = build(keyframe_config(interval=4))
    _, seen = run(
        model, *(batch(frame(0, i, frame_id=str(i))) for i in range(8, 12))
    )
    assert seen == [1]


@pytest.mark.parametrize('interval', [0, -1])
def test_a_wrong_interval_is_refused(interval):
    with pytest.raises(ValueError, match=r'interval 1, 2, \.\.\.'):
        build(keyframe_config(interval=interval))


def test_only_a_fresh_model_of_mmengine_is_accepted():
    model = build(keyframe_config(interval=4))
    with pytest.raises(ValueError, match='interval 4'):
        use_keyframes(model, 2)
    with pytest.raises(TypeError, match='BaseModel, got Linear'):
        use_keyframes(torch.nn.Linear(1, 1))
