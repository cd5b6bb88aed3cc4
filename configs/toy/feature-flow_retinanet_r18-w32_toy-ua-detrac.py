# Deep Feature Flow: features of every third frame are warped to the others.
_base_ = 'retinanet_r18-w32_toy-ua-detrac.py'
model = dict(type='mmskip.FeatureFlowModel', arch='RetinaNet', interval=3)
