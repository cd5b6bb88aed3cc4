# SoF-Net on that ResNet. Its costs count as shares of a frame: in GMAC they
# would be too small to matter.
_base_ = 'tsn_r18-w16.py'

model = dict(
    type='mmskip.SoFRecognizer',
    policy=dict(type='mmskip.StopOrForwardHead', hidden_channels=64),
    early_exit=dict(rho=0.95, t_min=3),
    efficiency_loss=dict(type='mmskip.EfficiencyLoss', unit='share'),
    guidance_loss=dict(type='mmskip.PolicyGuidanceLoss', beta=0.9),
    alpha=0.9,
)
