# The values of the authors' code, which differ from the thesis: weights of the
# losses, weight decay, a second step of the learning rate (at epoch 60 of the
# stage with policies, which never comes), input of 192 x 192, 5 frames before
# an exit, policies that begin with a coin toss. What the code does otherwise
# is not here: inner classifiers that learn from stopped frames, too, the last
# one supervised by the classifier, noise in tests, its learning rates per
# kind of layer, and resizing to the nearest pixel.
_base_ = 'sof_r50_4xb6-16f-75e_activitynet-168.py'
resize = dict(_base_.resize, scale=(192, 192))
train_pipeline = [*_base_.train_load, resize, _base_.flip, *_base_.pack]
test_pipeline = [*_base_.test_load, resize, *_base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    policy=dict(forward_bias=0.0),
    early_exit=dict(t_min=4),
    guidance_loss=dict(beta=0.95),
    alpha=0.95,
)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
param_scheduler = [
    dict(type='MultiStepLR', milestones=[45, 75], gamma=0.1, by_epoch=True)
]
