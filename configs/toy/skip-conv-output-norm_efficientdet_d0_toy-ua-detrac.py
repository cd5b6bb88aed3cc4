# Norm gates, not trained. The layers that predict stay dense, see
# skip-conv-output-norm_retinanet_r18-w32_toy-ua-detrac.py.
_base_ = 'efficientdet_d0_toy-ua-detrac.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='RetinaNet',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(
                type='mmskip.OutputNormGate',
                threshold=0.8,
                order=2,
                relative=True,
            ),
            memory='accumulated',
            exclude=r'bbox_head\.retina_(cls|reg)',
        )
    ],
)
