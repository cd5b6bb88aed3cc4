# THUMOS'14, 101 classes, listed by tools/dataset_converters/thumos14.py:
# trained on the validation set, tested on the test set, at 224 x 224.
_base_ = 'activitynet.py'
data_root = 'data/thumos14/'
change = dict(
    data_root=data_root,
    num_classes=101,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
resize = dict(_base_.resize, scale=(224, 224))

train_dataloader = dict(
    dataset=dict(
        **change,
        ann_file='validation_list_videos.txt',
        data_prefix=dict(video='validation'),
        pipeline=[*_base_.train_load, resize, _base_.flip, *_base_.pack],
    )
)
val_dataloader = dict(
    dataset=dict(
        **change,
        ann_file='test_list_videos.txt',
        data_prefix=dict(video='test'),
        pipeline=[*_base_.test_load, resize, *_base_.pack],
    )
)
test_dataloader = val_dataloader
