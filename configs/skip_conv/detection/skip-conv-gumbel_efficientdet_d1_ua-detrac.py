# EfficientDet-D1 on UA-DETRAC with learned gates, fine-tuned in clips of 4.
_base_ = [
    'efficientdet_d1_ua-detrac.py',
    '../../_base_/conversions/gumbel.py',
]
train_dataloader = dict(
    _base_.clip_loader,
    dataset=dict(
        _base_.clip_dataset,
        dataset=dict(_base_.train_dataloader.dataset, frame_stride=1),
    ),
)
model = dict(
    type='mmskip.ConvertedModel',
    arch='RetinaNet',
    conversions=_base_.conversions,
    efficiency_loss=_base_.efficiency_loss,
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
custom_hooks = [
    dict(type='mmskip.VideoHook', num_frames=_base_.num_frames),
    *_base_.custom_hooks[1:],
]
