# Skip-Convolutions in TSM-R50: the 8 frames of a clip follow one another.
_base_ = [
    (
        'mmaction::recognition/tsm/'
        'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py'
    ),
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=_base_.conversions,
)
custom_hooks = [dict(type='mmskip.VideoHook', num_frames=8, inference='clip')]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
