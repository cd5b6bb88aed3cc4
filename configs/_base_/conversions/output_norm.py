# Skip-Convolutions with output-norm gates and a memory that does not drift.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
conversions = [
    dict(
        type='mmskip.SkipConversion',
        # The threshold is a share of how much neighbours differ in a layer's
        # output, one for all layers. Ours, from a real camera by day and by
        # night: raise it for fewer MACs, lower it for accuracy,
        # --cfg-options model.conversions.0.gate.threshold=
        gate=dict(
            type='mmskip.OutputNormGate',
            threshold=0.2,
            order=2,
            relative=True,
        ),
        memory='accumulated',
    )
]
