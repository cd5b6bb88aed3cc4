"""Pictures, plots and tables of what was computed and what it cost."""

from .overlay import (
    InputMap,
    PredictionDrawer,
    caption,
    computed_pixels,
    mirrored_sites,
    tint,
)
from .plots import (
    STYLES,
    new_figure,
    plot_accuracy_vs_macs,
    plot_bars,
    plot_error_vs_macs,
    plot_expected_vs_measured,
    plot_intervals,
    save_figure,
)
from .table import print_comparison, print_table, results_table

__all__ = [
    'STYLES',
    'InputMap',
    'PredictionDrawer',
    'caption',
    'computed_pixels',
    'mirrored_sites',
    'new_figure',
    'plot_accuracy_vs_macs',
    'plot_bars',
    'plot_error_vs_macs',
    'plot_expected_vs_measured',
    'plot_intervals',
    'print_comparison',
    'print_table',
    'results_table',
    'save_figure',
    'tint',
]
