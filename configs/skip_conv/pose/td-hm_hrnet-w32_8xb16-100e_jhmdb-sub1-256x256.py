# HRNet-w32 on split 1 of sub-JHMDB, dense (Skip-Conv, section 4.2).
_base_ = [
    '../../_base_/models/td-hm_hrnet-w32.py',
    '../../_base_/datasets/sub_jhmdb.py',
    '../../_base_/schedules/pose_adam_100e.py',
]
model = dict(head=dict(decoder=_base_.codec))
