"""YOWO on 3D backbones."""

import pytest
import torch

import mmskip
from tests.models.yowo.detectors import (
    TinyBackbone,
    TinyKeyBackbone,
    build,
    data,
)


def features_of(model, clips):
    with torch.no_grad():
        return model.eval().extract_feat(clips)[0]


def seen_by_neck(model, clips):
    """Features of key frame and clip."""
    seen = []
    handle = model.neck.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    features_of(model, clips)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(('key', 'at'), [('last', 3), ('middle', 2)])
def test_the_backbone_serves_both_branches(key, at):
    model = build(key=key)
    clips = torch.randn(2, 3, 8, 96, 128)
    frame, clip = seen_by_neck(model, clips)
    features = model.backbone(clips)
    assert features.shape == (2, 8, 4, 6, 8)
    assert torch.equal(frame, features[:, :, at])
    assert torch.allclose(clip, features.mean(2))


@pytest.mark.parametrize(('key', 'at'), [('last', 7), ('middle', 4)])
def test_a_2d_backbone_sees_the_key_frame_only(key, at):
    key_backbone = dict(type=TinyKeyBackbone)
    model = build(channels=(6, 8), key=key, key_backbone=key_backbone)
    clips = torch.randn(1, 3, 8, 96, 128)
    frame, _ = seen_by_neck(model, clips)
    assert torch.equal(frame, model.key_backbone(clips[:, :, at])[0])


def test_of_several_levels_the_last_is_used():
    model = build(TinyBackbone(levels=True))
    assert features_of(model, torch.randn(1, 3, 8, 96, 128)).shape == (
        1,
        16,
        6,
        8,
    )


def test_loss_teaches_all_parts():
    model = build().train()
    batch = model.data_preprocessor(data(), training=True)
    losses = model(**batch, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert set(losses) == {'loss_cls', 'loss_conf', 'loss_xy', 'loss_wh'}
    # Behind alpha = 0 there is nothing to learn but alpha itself.
    assert all(
        weight.grad is not None and weight.grad.isfinite().all()
        for weight in model.parameters()
    )
    assert model.backbone.head.weight.grad.abs().sum() > 0


def test_a_frozen_backbone_stays_as_it_is():
    model = build(freeze_backbone=True).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD(
        [w for w in model.parameters() if w.requires_grad], lr=0.1
    )
    batch = model.data_preprocessor(data(), training=True)
    model.parse_losses(model(**batch, mode='loss'))[0].backward()
    optimizer.step()
    assert not model.backbone.training
    assert model.neck.training
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_parts_that_a_conversion_adds_are_frozen_too():
    model = build(freeze_backbone=True)
    model.backbone.head.gate = torch.nn.Linear(2, 2)
    model.train()
    assert not any(w.requires_grad for w in model.backbone.parameters())
    assert all(w.requires_grad for w in model.neck.parameters())


def test_it_learns_where_and_what():
    """Two boxes, two actions, told apart by brightness."""
    torch.manual_seed(0)
    model = build().train()
    cases = [((16.0, 16.0, 40.0, 62.0), 1), ((80.0, 30.0, 104.0, 76.0), 5)]
    batches = []
    for shade, (box, label) in zip((40, 200), cases, strict=True):
        batch = data(1, (box,), label)
        batch['inputs'][0][:] = 120
        x1, y1, x2, y2 = map(int, box)
        batch['inputs'][0][:, :, y1:y2, x1:x2] = shade
        batches.append(batch)
    both = {key: [b[key][0] for b in batches] for key in batches[0]}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = None
    for _ in range(60):
        batch = model.data_preprocessor(dict(both), training=True)
        total, _ = model.parse_losses(model(**batch, mode='loss'))
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total.item() < first / 5  # targets within cells cost entropy
    model.eval()
    for sample, (box, label) in zip(model.test_step(both), cases, strict=True):
        found = sample.pred_instances
        best = found.scores.argmax()
        assert found.labels[best] == label
        # In pixels of the original frame: half as wide, twice as high.
        expected = torch.tensor(box) * torch.tensor([0.5, 2, 0.5, 2])
        assert torch.allclose(found.bboxes[best], expected, atol=6)


def test_results_do_not_depend_on_the_batch():
    model = build().eval()
    batch = data(3)
    with torch.no_grad():
        together = model.test_step({k: list(v) for k, v in batch.items()})
        alone = [
            model.test_step({k: [v[i]] for k, v in batch.items()})[0]
            for i in range(3)
        ]
    for one, other in zip(together, alone, strict=True):
        one, other = one.pred_instances, other.pred_instances
        assert torch.allclose(one.bboxes, other.bboxes, atol=1e-4)
        assert torch.allclose(one.scores, other.scores, atol=1e-6)


def test_all_macs_are_counted():
    model = build().eval()
    batch = model.data_preprocessor(data(2))
    with torch.no_grad(), mmskip.count_macs(model) as macs:
        model(**batch, mode='predict')
    assert not macs.uncounted()
    conv = 8 * 3 * 27 * 4 * 24 * 32
    head = 8 * 8 * 9 * 4 * 6 * 8
    neck = 48 * (16 * 16 + 16 * 16 * 9 + 2 * 16 * 16)
    yolo = 48 * (16 * 16 * 9 + 16 * 4 * (5 + 8))
    assert macs.per_frame().executed == conv + head + neck + yolo


def test_inputs_that_are_no_clips_are_refused():
    model = build()
    with pytest.raises(ValueError, match='FormatShape'):
        model.extract_feat(torch.randn(2, 3, 96, 128))
    clips = torch.randn(1, 3, 8, 96, 128)
    model = build(TinyBackbone(collapse=True))
    with pytest.raises(ValueError, match='use a 3D backbone'):
        model.extract_feat(clips)
    other = dict(type=TinyKeyBackbone, stride=32)
    model = build(channels=(6, 8), key_backbone=other)
    with pytest.raises(ValueError, match='backbones of one stride'):
        model.extract_feat(clips)


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="'first'"):
        build(key='first')
