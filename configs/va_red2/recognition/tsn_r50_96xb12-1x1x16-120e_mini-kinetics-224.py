# TSN-R50 with 16 frames (Table 4.4, beside AR-Net). lr and weight decay are
# those of I3D (ours).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/tsn_r50_scratch.py',
    '../../_base_/datasets/mini_kinetics_tsn.py',
    '../../_base_/schedules/va_red2_120e.py',
]
optim_wrapper = dict(optimizer=dict(lr=1.8, weight_decay=1e-4))
