# J-HMDB-21 for detectors that are told where persons are. The ground truth
# tells it, also in the test; for a fair comparison with detectors that find
# them, give LoadActorBoxes of the test set the boxes of a person detector
# (proposal_file=...). Clips have their key frame in the middle and 128 x 128
# pixels, what R(2+1)D is trained on.
_base_ = 'jhmdb_localization.py'
load = [
    dict(type='mmskip.SampleKeyFrameClip', clip_len=16, key='middle'),
    dict(type='mmskip.LoadActorBoxes'),
    dict(type='RawFrameDecode'),
]
augment = [
    dict(type='Resize', scale=(146, 146), keep_ratio=False),
    dict(type='RandomCrop', size=128),
    dict(type='Flip', flip_ratio=0.5),
]
resize = dict(type='Resize', scale=(128, 128), keep_ratio=False)

train_dataloader = dict(dataset=dict(pipeline=[*load, *augment, *_base_.pack]))
val_dataloader = dict(dataset=dict(pipeline=[*load, resize, *_base_.pack]))
test_dataloader = val_dataloader
