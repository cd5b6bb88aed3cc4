"""What a model's predictions cost, next to how good they are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric

from mmskip.registry import METRICS
from mmskip.runtime import LedgerReader, MacCount

GIGA = 1e9


@METRICS.register_module()
class ComputeCost(BaseMetric, LedgerReader):
    """MACs per frame of the whole model, from the gates' real decisions.

    Needs ``custom_hooks=[dict(type='mmskip.VideoHook')]``, which counts.
    Reports, per frame: ``gmac`` (executed and overhead, reference frames
    included; what OpenMMLab's tables call GFLOPs), ``dense_gmac`` (of the
    unconverted model); and ``reduction`` (their ratio), ``gate_share`` and
    ``reference_share`` (parts of what was spent), ``frames``.

    Args:
        out_file: JSON file for the same figures and, per layer, MACs and
            firing rate outside reference frames.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.
    """

    default_prefix = 'cost'

    def __init__(
        self,
        out_file: str | None = None,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Nothing: the ledger is filled while the model runs."""

    def evaluate(self, size: int) -> dict:
        """Sum the ledgers of all ranks.

        Raises:
            RuntimeError: No hook counted.
        """
        if self.ledger is None:
            raise RuntimeError(
                'expected VideoHook to count MACs for ComputeCost, got no '
                "ledger; add custom_hooks=[dict(type='mmskip.VideoHook')]"
            )
        # One result per rank, whatever the number of samples.
        self.results = [
            dict(
                frames=self.ledger.frames,
                layers=self.ledger.by_module(),
                uncounted=self.ledger.uncounted(),
            )
        ]
        return super().evaluate(get_world_size())

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Figures per frame from the ledgers of all ranks.

        Raises:
            RuntimeError: No forward of the model itself was counted.
        """
        frames = sum(result['frames'] for result in results)
        if not frames:
            raise RuntimeError(
                'expected the loop to call the model itself, got no frame; '
                'ComputeCost does not work with wrappers that only call a '
                'part of it (test-time augmentation)'
            )
        names = dict.fromkeys(n for r in results for n in r['layers'])
        layers = {
            name: MacCount.sum(
                r['layers'][name] for r in results if name in r['layers']
            )
            for name in names
        }
        total = MacCount.sum(layers.values())
        figures = dict(
            gmac=total.spent / frames / GIGA,
            dense_gmac=total.dense / frames / GIGA,
            reduction=total.reduction,
            gate_share=total.overhead / max(total.spent, 1),
            reference_share=total.reference / max(total.spent, 1),
            frames=float(frames),  # mmengine's logger drops integers
        )
        if self.out_file is not None:
            self._dump(figures, layers, results)
        return figures

    def _dump(
        self,
        figures: dict[str, float],
        layers: dict[str, MacCount],
        results: list[dict],
    ) -> None:
        report = dict(
            **figures,
            uncounted=results[0]['uncounted'],
            layers={
                name: {**count._asdict(), 'firing_rate': count.firing_rate}
                for name, count in layers.items()
            },
        )
        path = Path(self.out_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2))
