# Sub-JHMDB as it was released, top-down with the boxes of the annotation.
# The crop of 256 x 256 follows from the GMACs of the paper. Augmentation is
# that of mmpose's configs, as the paper's numbers are lost.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)

# What is often changed.
data_root = 'data/jhmdb/'
split = 1
crop_span = 1  # frames that share a crop: None is all of a video
train_batch_size = 16
num_workers = 4
codec = dict(
    type='MSRAHeatmap', input_size=(256, 256), heatmap_size=(64, 64), sigma=2
)

dataset = dict(
    type='mmskip.JHMDBPoseDataset',
    data_root=data_root,
    # ann_file='annotations/Sub{split}_{subset}.json' reads mmpose's JSON.
    split=split,
    crop_span=crop_span,
)
load = [dict(type='LoadImage'), dict(type='GetBBoxCenterScale')]
augment = [
    dict(type='RandomFlip', direction='horizontal'),
    dict(
        type='RandomBBoxTransform', rotate_factor=60, scale_factor=(0.75, 1.25)
    ),
]
crop = dict(type='TopdownAffine', input_size=codec['input_size'])
target = dict(type='GenerateTarget', encoder=codec)
pack = dict(
    type='PackPoseInputs',
    meta_keys=(
        'id',
        'img_id',
        'img_path',
        'video_id',
        'frame_id',
        'category_id',
        'ori_shape',
        'img_shape',
        'input_size',
        'input_center',
        'input_scale',
        'flip',
        'flip_direction',
        'flip_indices',
        'dataset_name',
    ),
)

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        subset='train',
        pipeline=[*load, *augment, crop, target, pack],
    ),
)
val_dataloader = dict(
    batch_size=8,  # consecutive frames of one stream
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='mmskip.VideoOrderSampler'),
    dataset=dict(
        **dataset,
        subset='test',
        test_mode=True,
        pipeline=[*load, crop, pack],
    ),
)
test_dataloader = val_dataloader

# PCK at 0.2 of the larger side of the box, and tPCK at 0.2 of the torso.
val_evaluator = [
    dict(type='JhmdbPCKAccuracy', thr=0.2, norm_item=['bbox', 'torso']),
    dict(type='mmskip.ComputeCost'),
]
test_evaluator = val_evaluator
