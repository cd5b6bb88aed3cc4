# TSN-R101 on 25 frames of a video of HMDB51, dense (Skip-Conv, supplement).
_base_ = [
    '../../_base_/models/tsn_r101_hmdb51.py',
    '../../_base_/datasets/hmdb51.py',
    '../../_base_/schedules/tsn_sgd_50e.py',
]
custom_hooks = _base_.hooks
