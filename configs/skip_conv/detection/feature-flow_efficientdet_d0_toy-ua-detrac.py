# Deep Feature Flow: backbone and neck run on every third frame, the head on
# all, between them on features that OpenCV's optical flow moves.
_base_ = 'efficientdet_d0_toy-ua-detrac.py'
model = dict(type='mmskip.FeatureFlowModel', arch='RetinaNet', interval=3)
