# SoF-Net on ResNet-50, with the values of the thesis (section 4.2); dropout
# is that of the authors' code.
_base_ = 'mmaction::_base_/models/tsn_r50.py'

model = dict(
    type='mmskip.SoFRecognizer',
    cls_head=dict(num_classes=200, dropout_ratio=0.5),
    policy=dict(type='mmskip.StopOrForwardHead', hidden_channels=512),
    early_exit=dict(rho=0.999, t_min=3),
    efficiency_loss=dict(type='mmskip.EfficiencyLoss'),
    guidance_loss=dict(type='mmskip.PolicyGuidanceLoss', beta=0.9),
    alpha=0.9,
)
