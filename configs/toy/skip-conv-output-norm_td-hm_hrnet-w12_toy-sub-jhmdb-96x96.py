# Norm gates in the small HRNet, not trained.
_base_ = 'td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(
                type='mmskip.OutputNormGate',
                threshold=0.2,
                order=2,
                relative=True,
            ),
            memory='accumulated',
        )
    ],
)
