# The same on the dynamic R(2+1)D-18, which keeps being asked to be cheap.
_base_ = [
    'action-rcnn_r2plus1d_r18_1xb8-16x1-50k_jhmdb-128.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='mmdet.FastRCNN',
    conversions=[dict(_base_.conversions[0], include=['backbone'])],
    efficiency_loss=dict(_base_.efficiency_loss, only_correct=False),
)
load_from = (
    'work_dirs/va-red2_r2plus1d_r18_96xb12-16x4-120e_kinetics400-128_tuned/'
    'epoch_40.pth'
)
