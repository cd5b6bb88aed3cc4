# The paper's conditional-computation baseline (Section 4.2): the same gates,
# fed with the frame and not with what changed.
_base_ = 'skip-conv-gumbel_efficientdet_d0_toy-ua-detrac.py'
gate = dict(type='mmskip.GumbelGate', sees='frame')
learned, depthwise = _base_.conversions
model = dict(conversions=[dict(learned, gate=gate), depthwise])
