# TPN on SlowOnly-R50 (not in the thesis; lr and weight decay of I3D).
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/tpn_slowonly_r50.py',
    '../_base_/datasets/mini_kinetics_clips.py',
    '../_base_/schedules/va_red2_120e.py',
]
optim_wrapper = dict(optimizer=dict(lr=1.8, weight_decay=1e-4))
