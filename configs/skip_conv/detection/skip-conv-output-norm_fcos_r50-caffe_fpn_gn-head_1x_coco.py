# Skip-Convolutions in FCOS-R50: a start for videos of your own.
# COCO has no videos: each image is a reference frame, and nothing is skipped.
# Videos in folders: video_key='img_path' in VideoHook and VideoOrderSampler.
_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='FCOS',
    conversions=_base_.conversions,
)
custom_hooks = [dict(type='mmskip.VideoHook')]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
