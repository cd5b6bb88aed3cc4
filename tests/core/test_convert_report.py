"""What a conversion says it did."""

from mmskip import ConversionReport


def test_a_report_counts_layers_and_groups_reasons():
    report = ConversionReport(
        'SkipConversion',
        converted=['a', 'b'],
        left_dense={
            'up': 'transposed convolution',
            **{f'head.{i}': 'excluded' for i in range(4)},
        },
    )

    assert str(report).splitlines() == [
        'SkipConversion: converted 2 of 7 layers',
        '  left dense, 4 x excluded: head.0, head.1, head.2, ...',
        '  left dense, 1 x transposed convolution: up',
    ]


def test_a_report_names_layers_that_the_native_backend_does_not_take():
    report = ConversionReport(
        'SkipConversion', converted=['a', 'b'], on_reference={'b': '3-D'}
    )

    assert str(report).splitlines() == [
        'SkipConversion: converted 2 of 2 layers',
        '  not native, no time saved, 1 x 3-D: b',
    ]


def test_reports_share_no_lists():
    first, second = ConversionReport('X'), ConversionReport('X')

    first.converted.append('a')

    assert second.converted == []
