# THUMOS'14, 101 classes, listed by tools/dataset_converters/thumos14.py:
# trained on the validation set, tested on the test set, at 224 x 224.
_base_ = 'activitynet_224.py'
data_root = 'data/thumos14/'
change = dict(
    data_root=data_root,
    num_classes=101,
    metainfo=dict(classes=data_root + 'classes.txt'),
)

train_dataloader = dict(
    dataset=dict(
        **change,
        ann_file='validation_list_videos.txt',
        data_prefix=dict(video='validation'),
    )
)
val_dataloader = dict(
    dataset=dict(
        **change,
        ann_file='test_list_videos.txt',
        data_prefix=dict(video='test'),
    )
)
test_dataloader = val_dataloader
