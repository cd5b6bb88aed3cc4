"""Tiny models of the kinds that a stream has computed wrong."""

ANCHORS = dict(
    type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[16, 32]
)


def detector(backbone, in_channels=(64, 128), strides=(16, 32)):
    """A RetinaNet of a few channels on the last stages of a backbone."""
    return dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=backbone,
        neck=dict(
            type='FPN',
            in_channels=list(in_channels),
            out_channels=8,
            num_outs=len(strides),
        ),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=3,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            anchor_generator=dict(ANCHORS, strides=list(strides)),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
    )


def resnet(**options):
    return dict(
        type='ResNet',
        depth=50,
        base_channels=4,
        out_indices=(2, 3),
        **options,
    )


def deformable(kind, groups=1):
    return dict(
        dcn=dict(type=kind, deform_groups=groups, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
    )


REGNET = dict(
    type='RegNet',
    arch=dict(w0=8, wa=8.0, wm=2.0, group_w=4, depth=6, bot_mul=1.0),
    out_indices=(1, 2),
    **deformable('DCNv2'),
)
TRIDENT = dict(
    type='TridentResNet',
    depth=50,
    base_channels=4,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(2,),
    num_branch=3,
    test_branch_idx=1,
    trident_dilations=(1, 2, 3),
)
SLOW = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3dSlowOnly',
        depth=50,
        pretrained=None,
        base_channels=4,
        lateral=False,
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(0, 0, 1, 1),
        non_local=((0, 0, 0), (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), (0, 0, 0)),
        non_local_cfg=dict(
            sub_sample=True,
            use_scale=True,
            norm_cfg=dict(type='BN3d', requires_grad=True),
            mode='embedded_gaussian',
        ),
    ),
    cls_head=dict(type='I3DHead', in_channels=128, num_classes=3),
)
MODELS = {
    'dconv': ('mmdet', detector(resnet(**deformable('DCN')))),
    'mdconv': ('mmdet', detector(resnet(**deformable('DCNv2')))),
    'mdconv-groups': ('mmdet', detector(resnet(**deformable('DCNv2', 2)))),
    'gn-ws': (
        'mmdet',
        detector(
            resnet(
                conv_cfg=dict(type='ConvWS'),
                norm_cfg=dict(type='GN', num_groups=2),
            )
        ),
    ),
    'trident': ('mmdet', detector(TRIDENT, [64], [16])),
    'nonlocal': ('mmaction', SLOW),
}
