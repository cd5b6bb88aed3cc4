# Frames <id>/image_00001.jpg, listed by
# tools/dataset_converters/activitynet.py --rawframes.
_base_ = 'activitynet.py'
frames = dict(
    type='mmskip.ActionFrameDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img='frames'),
    filename_tmpl='image_{:05}.jpg',
    multi_class=True,
    num_classes=_base_.num_classes,
    metainfo=dict(classes=_base_.data_root + 'classes.txt'),
)
decode = dict(type='RawFrameDecode')
train_pipeline = [
    *(_base_.train_load[1], decode, *_base_.train_load[3:]),
    *(_base_.resize, _base_.flip, *_base_.pack),
]
test_pipeline = [
    *(_base_.test_load[1], decode, *_base_.test_load[3:]),
    *(_base_.resize, *_base_.pack),
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **frames,
        ann_file='train_list_rawframes.txt',
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **frames,
        ann_file='val_list_rawframes.txt',
        test_mode=True,
        on_broken='raise',
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
