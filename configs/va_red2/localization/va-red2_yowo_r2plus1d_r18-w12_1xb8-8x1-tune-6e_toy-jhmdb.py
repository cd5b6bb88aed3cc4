# The plain toy's checkpoint, made dynamic, tuned with the efficiency loss.
# Frames have no label that is right or wrong, so all are asked to be cheap.
# YOLO's losses are sums over a frame, some ninety times a classifier's at
# first; the weight follows them and is not tuned.
_base_ = [
    'yowo_r2plus1d_r18-w12_1xb8-8x1-tune-6e_toy-jhmdb.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='mmskip.YOWO',
    conversions=[dict(_base_.conversions[0], include=['backbone'])],
    efficiency_loss=dict(
        _base_.efficiency_loss, weight=10.0, only_correct=False
    ),
)
