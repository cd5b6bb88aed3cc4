# Skip-Convolutions in YOLOX-tiny: a start for videos of your own.
# COCO has no videos: each image is a reference frame, and nothing is skipped.
# Videos in folders: video_key='img_path' in VideoHook and VideoOrderSampler.
_base_ = [
    'mmdet::yolox/yolox_nano_8xb8-300e_coco.py',
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='YOLOX',
    conversions=_base_.conversions,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmskip.VideoHook'),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
