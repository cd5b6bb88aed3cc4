# Norm gates in HRNet-w32 on split 1, not trained; a reference frame every 8
# frames, as with the learned ones. The threshold is ours.
_base_ = 'td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256.py'
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
stream = dict(type='mmskip.VideoHook', reset_interval=8)
custom_hooks = [stream, *_base_.custom_hooks[1:]]
