# Skip-Convolutions in ResNet-50 pose; every JHMDB clip is one stream.
_base_ = (
    'mmpose::body_2d_keypoint/topdown_heatmap/jhmdb/'
    'td-hm_res50_8xb64-20e_jhmdb-sub1-256x256.py'
)
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)

# The gate's threshold, one for all layers, in units of a layer's output. Ours,
# as a starting point: raise it for fewer MACs, lower it for accuracy.
threshold = 0.05

model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(type='mmskip.OutputNormGate', threshold=threshold),
        )
    ],
)
custom_hooks = [*_base_.custom_hooks, dict(type='mmskip.VideoHook')]
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='mmskip.VideoOrderSampler', frame_key='img_path'),
)
test_dataloader = val_dataloader
val_evaluator = [*_base_.val_evaluator, dict(type='mmskip.ComputeCost')]
test_evaluator = val_evaluator
