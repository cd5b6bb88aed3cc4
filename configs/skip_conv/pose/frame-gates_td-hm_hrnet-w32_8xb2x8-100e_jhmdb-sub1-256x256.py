# The paper's conditional-computation baseline (section 4.2): the same gates,
# fed with the frame and not with what changed.
_base_ = 'skip-conv-gumbel_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256.py'
(learned,) = _base_.model.conversions
gate = dict(type='mmskip.GumbelGate', sees='frame')
model = dict(conversions=[dict(learned, gate=gate)])
