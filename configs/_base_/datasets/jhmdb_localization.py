# J-HMDB-21, split 1, as it was released, with JHMDB-GT.pkl (see
# tools/dataset_converters/jhmdb_actions.py). Every annotated frame is a key
# frame at the end of a clip of T = 16 consecutive frames; where the video
# has not begun yet, its first frame is repeated.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
default_scope = 'mmaction'

# What is often changed.
data_root = 'data/jhmdb/'
num_classes = 21
train_batch_size = 8
num_workers = 4

dataset = dict(
    type='mmskip.JHMDBDataset',
    data_root=data_root,
    data_prefix=dict(img='Rename_Images'),  # 'Frames' in MOC's copy
    split=1,
    num_classes=num_classes,
)
load = [
    dict(type='mmskip.SampleKeyFrameClip', clip_len=16, key='last'),
    dict(type='RawFrameDecode'),
]
resize = dict(type='Resize', scale=(224, 224), keep_ratio=False)
# YOWO jitters borders by up to 20 % and colours in HSV; these are mmaction2's
# nearest.
augment = [
    dict(type='Resize', scale=(293, 256), keep_ratio=False),
    dict(type='RandomCrop', size=240),
    resize,
    dict(type='Flip', flip_ratio=0.5),
    dict(type='ColorJitter', brightness=0.3, saturation=0.3, hue=0.1),
]
pack = [
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(
        type='PackActionInputs',
        meta_keys=('img_shape', 'scale_factor', 'video_id', 'frame_id'),
    ),
]

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, subset='train', pipeline=[*load, *augment, *pack]),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        subset='test',
        test_mode=True,
        pipeline=[*load, resize, *pack],
    ),
)
test_dataloader = val_dataloader

val_evaluator = [dict(type='mmskip.FrameMAP'), dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmskip.VideoHook')]  # counts MACs, per clip
