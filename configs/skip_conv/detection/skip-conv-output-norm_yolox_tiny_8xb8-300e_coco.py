# Skip-Convolutions in YOLOX-tiny: a start for videos of your own.
# COCO has no video: here each image is one, and a reference frame. For frames
# of a video remove `video_key`; the folder of an image is then its video.
_base_ = [
    'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='YOLOX',
    conversions=_base_.conversions,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmskip.VideoHook', video_key='img_id'),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
