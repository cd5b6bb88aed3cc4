# Pose with a PVTv2-B2, whose linear layers skip, too; every JHMDB clip is one
# stream. It begins with the host's weights for COCO.
_base_ = [
    (
        'mmpose::body_2d_keypoint/topdown_heatmap/jhmdb/'
        'td-hm_res50_8xb64-20e_jhmdb-sub1-256x256.py'
    ),
    '../../_base_/conversions/output_norm.py',
]
weights = 'https://download.openmmlab.com/mmpose/top_down/pvt/'
load_from = f'{weights}pvtv2_b2_coco_256x192-b4212737_20220501.pth'
backbone = dict(type='PyramidVisionTransformerV2', num_layers=[3, 4, 6, 3])
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=[dict(_base_.conversions[0], linear=True)],
    backbone=dict(backbone, _delete_=True, embed_dims=64),
    neck=dict(type='FeatureMapProcessor', select_index=3),
    head=dict(in_channels=512),
)
# The folder of an image tells its video.
hook = dict(type='mmskip.VideoHook', video_key='img_path')
custom_hooks = [*_base_.custom_hooks, hook]
sampler = dict(type='mmskip.VideoOrderSampler', video_key='img_path')
val_dataloader = test_dataloader = dict(batch_size=1, sampler=sampler)
cost = dict(type='mmskip.ComputeCost')
val_evaluator = test_evaluator = [*_base_.val_evaluator, cost]
