# Mini-Kinetics-200, listed by tools/dataset_converters/mini_kinetics.py.
_base_ = 'kinetics400_clips.py'
data_root = 'data/mini_kinetics/'
change = dict(
    data_root=data_root,
    data_prefix=dict(video='videos'),
    num_classes=200,
    metainfo=dict(classes=[str(label) for label in range(200)]),
)

train_dataloader = dict(dataset=change)
val_dataloader = dict(dataset=change)
test_dataloader = dict(dataset=change)
