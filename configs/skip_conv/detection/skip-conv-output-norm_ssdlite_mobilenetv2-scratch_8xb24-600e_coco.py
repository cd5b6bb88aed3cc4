# Skip-Convolutions in SSDLite-MobileNetV2: a start for videos of your own.
# COCO has no video: here each image is one, and a reference frame. For frames
# of a video remove `video_key`; the folder of an image is then its video.
_base_ = [
    'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='SingleStageDetector',
    conversions=_base_.conversions,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmskip.VideoHook', video_key='img_id'),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
