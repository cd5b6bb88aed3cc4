# EfficientDet-D0 on UA-DETRAC with learned gates, fine-tuned in clips of 4.
_base_ = [
    'efficientdet_d0_ua-detrac.py',
    '../../_base_/conversions/gumbel.py',
]
train_dataloader = dict(
    batch_size=_base_.clips_per_batch,
    sampler=dict(_delete_=True, **_base_.clip_sampler),
    batch_sampler=None,
    collate_fn=_base_.clip_collate,
    dataset=dict(
        _delete_=True,
        dataset=dict(_base_.train_dataloader.dataset, frame_stride=1),
        **_base_.clip_dataset,
    ),
)
model = dict(
    type='mmskip.ConvertedModel',
    arch='RetinaNet',
    conversions=_base_.conversions,
    efficiency_loss=_base_.efficiency_loss,
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
custom_hooks = [dict(type='mmskip.VideoHook', num_frames=_base_.num_frames)]
