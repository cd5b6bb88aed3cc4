# The small Swin detector, converted: convolutions and linear layers over
# tokens. The layers that predict stay dense, see
# skip-conv-output-norm_retinanet_r18-w32_toy-ua-detrac.py.
_base_ = 'retinanet_swin-w24_toy-ua-detrac.py'
threshold = 0.15  # of how much neighbours in a layer's output differ; ours

model = dict(
    type='mmskip.ConvertedModel',
    arch='RetinaNet',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(
                type='mmskip.OutputNormGate',
                threshold=threshold,
                order=2,
                relative=True,
            ),
            memory='accumulated',
            linear=True,
            exclude=r'bbox_head\.retina_(cls|reg)',
        )
    ],
)
