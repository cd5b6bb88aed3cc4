# The demo's detector, converted. Its last layers, 6 % of its MACs, stay dense:
# box regression has no normalisation behind it and forgives no error.
_base_ = 'retinanet_r18-w32_toy-ua-detrac.py'
threshold = 0.2  # of how much neighbours in a layer's output differ; ours

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
            exclude=r'bbox_head\.retina_(cls|reg)',
        )
    ],
)
