# mmaction2's detector on toy data. Data: tools/make_toy_jhmdb.py.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/action-rcnn_r2plus1d_r18-w12.py',
    '../_base_/datasets/toy_jhmdb_actor_boxes.py',
    '../_base_/schedules/adamw_12e.py',
]
optim_wrapper = dict(clip_grad=dict(max_norm=20))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
