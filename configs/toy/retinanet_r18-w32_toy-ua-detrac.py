# A small stock RetinaNet, trained from scratch in minutes on a CPU.
_base_ = [
    '../_base_/models/retinanet_r18-w32.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/toy_ua_detrac.py',
    '../_base_/schedules/adamw_8e.py',
]
randomness = dict(seed=0)
