# Skip-Convolutions with output-norm gates and a memory that does not drift.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
conversions = [
    dict(
        type='mmskip.SkipConversion',
        # The threshold is a share of a layer's mean output, one for all
        # layers. Ours, from the toy detector: raise it for fewer MACs, lower
        # it for accuracy, --cfg-options model.conversions.0.gate.threshold=
        gate=dict(
            type='mmskip.OutputNormGate',
            threshold=1 / 16,
            order=2,
            relative=True,
        ),
        memory='accumulated',
    )
]
