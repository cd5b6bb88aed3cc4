# Spatial SVD, and its factors as Skip-Convolutions (section 4.2, Fig. 5).
_base_ = (
    '../skip_conv/pose/'
    'skip-conv-output-norm_td-hm_res50_8xb64-20e_jhmdb-sub1-256x256.py'
)
model = dict(
    conversions=[
        dict(type='mmskip.SVDConversion', method='spatial', macs=0.5),
        *_base_.conversions,
    ]
)
