# Skip-Convolutions in TSN-R50: the 8 frames of a clip follow one another.
# The base tests 25 frames in ten crops; here, as in its val, 8 in one.
_base_ = [
    (
        'mmaction::recognition/tsn/'
        'tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py'
    ),
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=_base_.conversions,
)
custom_hooks = [dict(type='mmskip.VideoHook', num_frames=8, inference='clip')]
test_dataloader = dict(dataset=dict(pipeline=_base_.val_pipeline))
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
