"""Results to show."""


def make_rows():
    def row(method, ap, gmac, setting=None, backend='reference'):
        return dict(
            method=method,
            AP=ap,
            AP50=ap + 0.2,
            gmac_per_frame=gmac,
            dense_gmac_per_frame=10.0,
            reduction=10.0 / gmac,
            gate_share=0.0,
            reference_share=0.1,
            ms_per_frame=12.5,
            backend=backend,
            setting=setting,
        )

    return [
        row('dense', 0.61, 10.0, backend='torch'),
        row('output_norm', 0.60, 4.0, 0.05),
        row('output_norm', 0.55, 2.0, 0.1),
        row('keyframe', 0.41, 2.5, 4),
    ]
