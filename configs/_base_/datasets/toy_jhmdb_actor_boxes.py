# Toy J-HMDB for detectors that are told where persons are, see
# jhmdb_actor_boxes.py.
_base_ = 'toy_jhmdb.py'
load = [
    dict(type='mmskip.SampleKeyFrameClip', clip_len=8, key='middle'),
    dict(type='mmskip.LoadActorBoxes'),
    *_base_.load[1:],
]
train_dataloader = dict(
    dataset=dict(pipeline=[*load, _base_.flip, *_base_.pack])
)
val_dataloader = dict(dataset=dict(pipeline=[*load, *_base_.pack]))
test_dataloader = val_dataloader
