# Skip-Convolutions in ResNet-50 pose; every JHMDB clip is one stream.
_base_ = [
    (
        'mmpose::body_2d_keypoint/topdown_heatmap/jhmdb/'
        'td-hm_res50_8xb64-20e_jhmdb-sub1-256x256.py'
    ),
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=_base_.conversions,
)
video_key = 'img_path'  # the folder of an image
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmskip.VideoHook', video_key=video_key),
]
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='mmskip.VideoOrderSampler', video_key=video_key),
)
test_dataloader = val_dataloader
val_evaluator = [*_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
