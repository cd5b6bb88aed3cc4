# HRFormer-S, whose linear layers skip, too: a start for videos of your own.
# COCO has no videos: each person is a reference frame, and nothing is skipped.
# Videos of one person in folders: video_key='img_path' in VideoHook and
# VideoOrderSampler.
_base_ = [
    (
        'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_hrformer-small_8xb32-210e_coco-256x192.py'
    ),
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=[dict(_base_.conversions[0], linear=True)],
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmskip.VideoHook'),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
