# VA-RED^2 in PSPNet on a dilated ResNet-18, channels alone (section 4.3): 4
# GPUs with 2 images, 100k iterations, a cosine. lr is mmsegmentation's (the
# thesis gives none). The auxiliary head only runs in training.
_base_ = 'mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py'
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
model = dict(
    type='mmskip.ConvertedModel',
    arch='EncoderDecoder',
    conversions=[
        dict(
            type='mmskip.DynamicConversion',
            time=False,
            exclude=r'auxiliary_head\..*',
        )
    ],
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_iters=100000, val_interval=10000)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=100000, end=100000, by_epoch=False)
]
