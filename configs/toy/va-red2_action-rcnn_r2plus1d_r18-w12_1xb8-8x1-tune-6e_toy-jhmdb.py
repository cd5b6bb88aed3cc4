# The plain toy's checkpoint, made dynamic, tuned with the efficiency loss.
# Boxes have labels of their own: all frames are asked to be cheap.
_base_ = [
    'action-rcnn_r2plus1d_r18-w12_1xb8-8x1-tune-6e_toy-jhmdb.py',
    '../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='mmdet.FastRCNN',
    conversions=[dict(_base_.conversions[0], include=['backbone'])],
    efficiency_loss=dict(
        _base_.efficiency_loss, weight=1.2, only_correct=False
    ),
)
