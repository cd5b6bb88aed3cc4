# Interleaved detection: every third frame is computed, the others repeat it.
_base_ = 'efficientdet_d0_toy-ua-detrac.py'
model = dict(type='mmskip.KeyframeModel', arch='RetinaNet', interval=3)
