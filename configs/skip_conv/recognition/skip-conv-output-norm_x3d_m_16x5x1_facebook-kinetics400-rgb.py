# Skip-Convolutions in X3D-M: a start for long videos, whose samples are
# windows of one file, in order. Kinetics has one sample per file: there every
# window is a reference frame.
_base_ = [
    'mmaction::recognition/x3d/x3d_m_16x5x1_facebook-kinetics400-rgb.py',
    '../../_base_/conversions/output_norm.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
custom_hooks = [dict(type='mmskip.VideoHook', video_key='filename')]
pack = dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
test_pipeline = [*_base_.test_pipeline[:-1], pack]
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_evaluator = [_base_.test_evaluator, dict(type='mmskip.ComputeCost')]
