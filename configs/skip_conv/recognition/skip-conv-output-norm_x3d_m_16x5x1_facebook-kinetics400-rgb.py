# Skip-Convolutions in X3D-M: a start for long videos, whose samples are
# windows of one file, in order. Kinetics has one sample per file: there every
# window is a reference frame.
_base_ = 'mmaction::recognition/x3d/x3d_m_16x5x1_facebook-kinetics400-rgb.py'
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)

# The gate's threshold, one for all layers, in units of a layer's output. Ours,
# as a starting point: raise it for fewer MACs, lower it for accuracy.
threshold = 0.05

model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(type='mmskip.OutputNormGate', threshold=threshold),
        )
    ],
)
custom_hooks = [dict(type='mmskip.VideoHook', video_key='filename')]
pack = dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
test_pipeline = [*_base_.test_pipeline[:-1], pack]
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_evaluator = [_base_.test_evaluator, dict(type='mmskip.ComputeCost')]
