# Mini-Kinetics-200, listed by tools/dataset_converters/mini_kinetics.py. The
# pipelines are those of activitynet.py; a video has one label.
_base_ = 'activitynet.py'
data_root = 'data/mini_kinetics/'
change = dict(
    data_root=data_root,
    multi_class=False,
    num_classes=200,
    metainfo=dict(classes=[str(label) for label in range(200)]),
)

train_dataloader = dict(dataset=change)
val_dataloader = dict(dataset=change)
test_dataloader = val_dataloader
