# Weight SVD (W-SVD), a baseline of Skip-Convolutions (section 4.2): half of
# every layer's MACs. A dense checkpoint in load_from is factorised as it is
# loaded; tools/compress.py chooses a rank for each layer instead.
_base_ = 'skip-conv-output-norm_td-hm_res50_8xb64-20e_jhmdb-sub1-256x256.py'
model = dict(
    conversions=[dict(type='mmskip.SVDConversion', method='weight', macs=0.5)]
)
