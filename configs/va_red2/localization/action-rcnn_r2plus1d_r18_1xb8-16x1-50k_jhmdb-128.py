# mmaction2's detector on R(2+1)D-18, trained on Kinetics before. The learning
# rate is that of its AVA configs for a batch of 8; nobody has tuned it here.
_base_ = [
    '../../_base_/models/action-rcnn_r2plus1d_r18.py',
    '../../_base_/datasets/jhmdb_actor_boxes.py',
    '../../_base_/schedules/yowo_sgd_50k.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.0125), clip_grad=dict(max_norm=40))
load_from = (
    'work_dirs/r2plus1d_r18_96xb12-16x4-120e_kinetics400-128/epoch_120.pth'
)
