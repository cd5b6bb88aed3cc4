"""What a user does with a built model: stream it, and count its MACs."""

from .bindings import Binding, ClipBinding, StreamBinding
from .choices import (
    ChoiceRecord,
    LayerChoices,
    record_choices,
)
from .compiling import compile_stream, undo_compile
from .counting import count_macs
from .dynamic_efficiency import attach_dynamic_loss
from .efficiency import attach_efficiency_loss
from .errors import InputError
from .folding import fold_batch_norms
from .force_choices import force_choices
from .ledger import FrameSkipper, LedgerReader, MacCount, MacLedger
from .state import StreamState
from .streaming import clip, stream
from .timing import Stopwatch, StopwatchReader

__all__ = [
    'Binding',
    'ChoiceRecord',
    'ClipBinding',
    'FrameSkipper',
    'InputError',
    'LayerChoices',
    'LedgerReader',
    'MacCount',
    'MacLedger',
    'Stopwatch',
    'StopwatchReader',
    'StreamBinding',
    'StreamState',
    'attach_dynamic_loss',
    'attach_efficiency_loss',
    'clip',
    'compile_stream',
    'count_macs',
    'fold_batch_norms',
    'force_choices',
    'record_choices',
    'stream',
    'undo_compile',
]
