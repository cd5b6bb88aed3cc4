"""Pictures, plots and tables of what was computed and what it cost."""

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
    'print_comparison',
    'print_table',
    'results_table',
    'save_figure',
    'tint',
]
