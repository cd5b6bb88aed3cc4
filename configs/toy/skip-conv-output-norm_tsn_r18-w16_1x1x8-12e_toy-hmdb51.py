# Norm gates in the small TSN: tested with the dense checkpoint, or trained
# from it (load_from). Then they decide as they do in a stream, and the weights
# learn to do with what they leave.
_base_ = 'finetune_tsn_r18-w16_1x1x8-12e_toy-hmdb51.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(
                type='mmskip.OutputNormGate',
                threshold=0.34,  # ours
                order=2,
                relative=True,
            ),
            memory='accumulated',
        )
    ],
)
