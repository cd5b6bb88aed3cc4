# What tools/make_toy_ua_detrac.py writes: 96 short sequences to train on.
_base_ = 'ua_detrac.py'
data_root = 'data/toy_ua_detrac/'

train_dataloader = dict(dataset=dict(data_root=data_root, frame_stride=1))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
