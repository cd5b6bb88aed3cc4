"""Pictures, plots and tables of what was computed and what it cost."""

from mmskip.visualization.analysis_plots import (
    plot_bars,
    plot_expected_vs_measured,
    plot_intervals,
)
from mmskip.visualization.calibration_plot import plot_error_vs_macs
from mmskip.visualization.figures import STYLES, new_figure, save_figure
from mmskip.visualization.overlay import (
    InputMap,
    caption,
    computed_pixels,
    mirrored_sites,
    tint,
)
from mmskip.visualization.plots import plot_accuracy_vs_macs
from mmskip.visualization.predictions import PredictionDrawer
from mmskip.visualization.table import (
    print_comparison,
    print_table,
    results_table,
)

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
