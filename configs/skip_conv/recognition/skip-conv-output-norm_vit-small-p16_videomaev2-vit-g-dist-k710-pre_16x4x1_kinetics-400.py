# VideoMAE V2 with a ViT-S, the smallest that the host has, whose linear layers
# and attention skip, too: a start for long videos, whose samples are windows
# of one file, in order. Kinetics has one sample per file: there every window
# is a reference frame. Like the host's config it tests, and does not train.
_base_ = [
    (
        'mmaction::recognition/videomaev2/'
        'vit-small-p16_videomaev2-vit-g-dist-k710-pre_'
        '16x4x1_kinetics-400.py'
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
test_pipeline = [*_base_.test_pipeline[:-1], pack]
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_evaluator = [_base_.test_evaluator, dict(type='mmskip.ComputeCost')]
