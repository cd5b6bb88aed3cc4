# TSN on all frames, trained as SoF-Net is (row 1 of Table 4.4).
_base_ = [
    '../_base_/runtimes/action.py',
    'mmaction::_base_/models/tsn_r50.py',
    '../_base_/datasets/activitynet.py',
    '../_base_/schedules/sof_sgd_75e.py',
]
model = dict(cls_head=dict(num_classes=200, dropout_ratio=0.5))
