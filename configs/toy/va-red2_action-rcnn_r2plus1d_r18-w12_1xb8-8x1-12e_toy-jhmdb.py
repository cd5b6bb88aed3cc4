# The dynamic toy, from scratch with its gates; nothing is asked to be cheap.
_base_ = [
    'action-rcnn_r2plus1d_r18-w12_1xb8-8x1-12e_toy-jhmdb.py',
    '../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='mmdet.FastRCNN',
    conversions=[dict(_base_.conversions[0], include=['backbone'])],
)
