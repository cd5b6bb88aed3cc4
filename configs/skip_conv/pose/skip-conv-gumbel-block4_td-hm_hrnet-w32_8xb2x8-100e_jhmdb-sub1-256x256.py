# Learned gates that decide for blocks of 4 x 4 outputs (Table 3).
_base_ = 'skip-conv-gumbel_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256.py'
(learned,) = _base_.model.conversions
gate = dict(learned.gate, block_size=4)
model = dict(conversions=[dict(learned, gate=gate)])
