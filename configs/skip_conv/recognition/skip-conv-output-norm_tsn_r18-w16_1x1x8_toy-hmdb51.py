# Norm gates in the small TSN, not trained.
_base_ = 'tsn_r18-w16_1x1x8-12e_toy-hmdb51.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
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
