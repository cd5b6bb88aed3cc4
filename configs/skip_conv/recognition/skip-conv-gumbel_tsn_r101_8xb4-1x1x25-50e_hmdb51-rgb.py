# Learned gates in TSN-R101 on 25 frames of a video. The dense model's
# checkpoint goes into load_from. Beta is ours: the paper's is lost.
_base_ = [
    'tsn_imagenet-pretrained-r101_8xb4-1x1x25-50e_hmdb51-rgb.py',
    '../../_base_/conversions/gumbel.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=_base_.conversions[:1],  # nothing is depthwise
    efficiency_loss=_base_.efficiency_loss,
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
