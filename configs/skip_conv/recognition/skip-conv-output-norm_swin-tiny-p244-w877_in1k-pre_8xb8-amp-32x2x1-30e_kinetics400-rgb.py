# Video Swin-T, whose linear layers skip, too: a start for long videos, whose
# samples are windows of one file, in order. Kinetics has one sample per file:
# there every window is a reference frame.
_base_ = [
    (
        'mmaction::recognition/swin/'
        'swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py'
    ),
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=[dict(_base_.conversions[0], linear=True)],
)
custom_hooks = [dict(type='mmskip.VideoHook', video_key='filename')]
pack = dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
val_pipeline = [*_base_.val_pipeline[:-1], pack]
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=val_pipeline))
test_pipeline = [*_base_.test_pipeline[:-1], pack]
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
