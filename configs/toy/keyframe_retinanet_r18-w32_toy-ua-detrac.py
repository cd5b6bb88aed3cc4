# The frame-skip baseline: every third frame is computed, the others repeat.
_base_ = 'retinanet_r18-w32_toy-ua-detrac.py'
model = dict(type='mmskip.KeyframeModel', arch='RetinaNet', interval=3)
