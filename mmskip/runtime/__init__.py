"""What a user does with a built model: stream it, and count its MACs."""

from .activations import fold_activations
from .bindings import Binding, ClipBinding, StreamBinding
from .bypasses import refuse_bypasses
from .choices import (
    ChoiceRecord,
    LayerChoices,
    record_choices,
)
from .counting import count_macs
from .dataflow import find_readers
from .errors import InputError
from .fold import fold
from .fold_report import FoldReport
from .folding import fold_batch_norms
from .force_choices import force_choices
from .ledger import FrameSkipper, LedgerReader, MacCount, MacLedger
from .motion import HomographyMotion, Motion
from .propagating import propagate_changes
from .reasons import list_reasons
from .state import StreamState
from .streaming import clip, stream
from .timing import Stopwatch, StopwatchReader

__all__ = [
    'Binding',
    'ChoiceRecord',
    'ClipBinding',
    'FoldReport',
    'FrameSkipper',
    'HomographyMotion',
    'InputError',
    'LayerChoices',
    'LedgerReader',
    'MacCount',
    'MacLedger',
    'Motion',
    'Stopwatch',
    'StopwatchReader',
    'StreamBinding',
    'StreamState',
    'clip',
    'count_macs',
    'find_readers',
    'fold',
    'fold_activations',
    'fold_batch_norms',
    'force_choices',
    'list_reasons',
    'propagate_changes',
    'record_choices',
    'refuse_bypasses',
    'stream',
]
