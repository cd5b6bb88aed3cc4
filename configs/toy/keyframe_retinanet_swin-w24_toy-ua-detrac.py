# The frame-skip baseline: every third frame is computed, the others repeat.
_base_ = 'retinanet_swin-w24_toy-ua-detrac.py'
model = dict(type='mmskip.KeyframeModel', arch='RetinaNet', interval=3)
