# The plain X3D-M row of VA-RED^2's Table 4.9. The backbone is frozen: begin
# with a recogniser trained on Kinetics, load_from = its checkpoint.
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/yowo.py',
    '../../_base_/datasets/jhmdb.py',
    '../../_base_/schedules/yowo_sgd_50k.py',
]
model = dict(
    backbone=dict(type='mmaction.X3D', gamma_w=1, gamma_b=2.25, gamma_d=2.2),
    neck=dict(in_channels=(432, 432)),
)
