# The paper's conditional-computation baseline (section 4.2): the same gates,
# fed with the frame and not with what changed.
_base_ = 'skip-conv-gumbel_td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py'
(learned,) = _base_.model.conversions
gate = dict(type='mmskip.GumbelGate', sees='frame')
model = dict(conversions=[dict(learned, gate=gate)])
