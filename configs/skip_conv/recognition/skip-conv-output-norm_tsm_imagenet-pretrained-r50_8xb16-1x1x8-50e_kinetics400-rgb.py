# Skip-Convolutions in TSM-R50: the 8 frames of a clip follow one another.
_base_ = (
    'mmaction::recognition/tsm/'
    'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py'
)
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)

# The gate's threshold, one for all layers, in units of a layer's output. Ours,
# as a starting point: raise it for fewer MACs, lower it for accuracy.
threshold = 0.05

model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(type='mmskip.OutputNormGate', threshold=threshold),
        )
    ],
)
custom_hooks = [dict(type='mmskip.VideoHook', num_frames=8, inference='clip')]
val_evaluator = [_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
