import pytest
import torch
from mmengine.config import Config

from mmskip.apis import UserError, init_model, is_converted

pytest.importorskip('mmdet')


def config():
    """A backbone and head of a few channels, converted."""
    gate = dict(type='mmskip.OutputNormGate', threshold=0.1)
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(
                type='mmskip.ConvertedModel',
                arch='RetinaNet',
                backbone=dict(
                    type='ResNet',
                    depth=18,
                    base_channels=4,
                    init_cfg=dict(type='Pretrained', checkpoint='no.pth'),
                ),
                neck=dict(
                    type='FPN',
                    in_channels=[4, 8, 16, 32],
                    out_channels=4,
                    num_outs=4,
                ),
                bbox_head=dict(
                    type='RetinaHead',
                    num_classes=2,
                    in_channels=4,
                    feat_channels=4,
                    stacked_convs=1,
                ),
                conversions=[dict(type='mmskip.SkipConversion', gate=gate)],
            ),
            data_preprocessor=dict(
                type='DetDataPreprocessor', mean=[1, 2, 3], std=[1, 1, 1]
            ),
            test_dataloader=dict(
                dataset=dict(
                    type='RepeatDataset',
                    dataset=dict(
                        type='CocoDataset', metainfo=dict(classes=('a', 'b'))
                    ),
                )
            ),
        )
    )


def test_a_model_is_built_without_data_and_downloads():
    model = init_model(config())
    assert is_converted(model)
    assert not model.training
    assert model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert model.dataset_meta['classes'] == ('a', 'b')
    assert model.cfg.default_scope == 'mmdet'


def test_weights_and_classes_come_from_the_checkpoint(tmp_path):
    model = init_model(config())
    with torch.no_grad():
        model.backbone.conv1.weight.fill_(0.5)
    path = tmp_path / 'a.pth'
    meta = dict(dataset_meta=dict(CLASSES=('c', 'd')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    loaded = init_model(config(), path)
    assert (loaded.backbone.conv1.weight == 0.5).all()
    assert loaded.dataset_meta == dict(classes=('c', 'd'))


def test_a_checkpoint_of_the_unconverted_model_fits(tmp_path):
    cfg = config()
    cfg.model.type = cfg.model.pop('arch')
    cfg.model.pop('conversions')
    path = tmp_path / 'a.pth'
    torch.save(init_model(cfg).state_dict(), path)
    assert is_converted(init_model(config(), path))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(torch.nn.Linear(1, 1).state_dict(), path)
    with pytest.raises(UserError, match="first key is 'weight'"):
        init_model(config(), path)


def test_options_are_merged():
    model = init_model(config(), cfg_options={'model.backbone.depth': 34})
    assert model.backbone.depth == 34


def test_a_missing_device_is_refused():
    with pytest.raises(UserError, match="cannot use device 'abacus'"):
        init_model(config(), device='abacus')


def test_a_config_without_model_is_refused():
    with pytest.raises(UserError, match="no 'model'"):
        init_model(Config(dict(default_scope='mmdet')))


def test_keypoints_and_their_mirror_images_come_from_the_config():
    pytest.importorskip('mmpose')
    cfg = Config(
        dict(
            default_scope='mmpose',
            model=dict(
                type='TopdownPoseEstimator',
                backbone=dict(type='ResNet', depth=18),
                head=dict(
                    type='HeatmapHead',
                    in_channels=512,
                    out_channels=17,
                    deconv_out_channels=None,
                    loss=dict(type='KeypointMSELoss'),
                ),
            ),
            test_dataloader=dict(dataset=dict(type='CocoDataset')),
        )
    )
    meta = init_model(cfg).dataset_meta
    assert meta['dataset_name'] == 'coco'
    assert len(meta['flip_indices']) == 17
