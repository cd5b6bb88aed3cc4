# Spatial SVD (S-SVD), a baseline of Skip-Convolutions (section 4.2), or weight
# SVD (W-SVD) with --cfg-options model.conversions.0.method=weight: half of
# every layer's MACs. A dense checkpoint in load_from is factorised as it is
# loaded; tools/compress.py chooses a rank for each layer instead.
_base_ = (
    '../skip_conv/pose/'
    'skip-conv-output-norm_td-hm_res50_8xb64-20e_jhmdb-sub1-256x256.py'
)
model = dict(
    conversions=[dict(type='mmskip.SVDConversion', method='spatial', macs=0.5)]
)
