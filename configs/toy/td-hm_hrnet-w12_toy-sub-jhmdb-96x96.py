# A small HRNet on the toy sub-JHMDB, dense, from scratch.
_base_ = [
    '../_base_/models/td-hm_hrnet-w12.py',
    '../_base_/datasets/toy_sub_jhmdb.py',
    '../_base_/schedules/pose_adam_6e.py',
]
randomness = dict(seed=0)
model = dict(head=dict(decoder=_base_.encoder))
