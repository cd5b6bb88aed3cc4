"""Boxes of persons for detectors that only tell what they do."""

import pickle

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get

from mmskip.compat.pickles import read_pickle
from mmskip.registry import TRANSFORMS
from mmskip.runtime import InputError
from mmskip.runtime.reading import reading, reads


@TRANSFORMS.register_module()
class LoadActorBoxes(BaseTransform):
    """Propose boxes of the persons in a key frame.

    From a file of a person detector, in the format of mmaction2's AVA
    proposals: a pickled dict from ``'<video_id>,<number of the frame>'``,
    four digits, counted from ``start_index`` (``'run/v1,0007'``), to boxes
    (n, 4) as shares of width and height, or (n, 5) with their scores last.
    A frame without persons has (0, 4).

    Without a file, **the ground truth's boxes are proposed**. To train on
    them is usual; measured on them, recall is 100 by construction and
    frame-mAP is that of telling actions apart where persons are known.

    Stands before the transform that decodes, which scales both kinds of
    boxes. Required keys: ``gt_bboxes`` and, for a file, ``video_id``,
    ``frame_id``, ``start_index``. Added: ``proposals``, float32 (n, 4).

    Args:
        proposal_file: Of the detector. None: the ground truth.
        score_thr: Least score of a proposal; if none has it, the one of the
            highest score is taken, as mmaction2 does. Defaults to its 0.9.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: ``score_thr`` is out of range.
        InputError: The file holds something else.
    """

    def __init__(
        self, proposal_file: str | None = None, score_thr: float = 0.9
    ) -> None:
        if not 0 <= score_thr <= 1:
            raise ValueError(
                f'expected score_thr in [0, 1], got {score_thr!r}'
            )
        self.proposal_file = proposal_file
        self.score_thr = score_thr
        self._found = (
            None if proposal_file is None else _read_boxes(proposal_file)
        )

    def transform(self, results: dict) -> dict:
        """Add ``proposals``.

        Raises:
            InputError: The file has no such frame, or its boxes are no
                shares of it.
        """
        if self._found is None:
            results['proposals'] = results['gt_bboxes'].copy()
        else:
            with reading(self.proposal_file, 'boxes of frames'):
                results['proposals'] = self._of_file(results)
        return results

    def _of_file(self, results: dict) -> np.ndarray:
        frame = results['frame_id'] + results['start_index']
        key = f'{results["video_id"]},{frame:04d}'
        if key not in self._found:
            raise InputError(
                f'{self.proposal_file}: expected boxes of the frame {key!r}, '
                f'got {len(self._found)} frames without it; give frames '
                'without persons an array of shape (0, 4)'
            )
        try:
            table = np.asarray(self._found[key], np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{self.proposal_file}: {key}: expected an array of boxes, '
                f'got {type(self._found[key]).__name__} ({error})'
            ) from error
        if table.ndim != 2 or table.shape[1] not in (4, 5):
            raise InputError(
                f'{self.proposal_file}: {key}: expected boxes of shape (n, 4)'
                f' or (n, 5), got {table.shape}'
            )
        boxes = table[:, :4]
        is_right = (boxes[:, :2] <= boxes[:, 2:]).all(1)
        is_right &= np.isfinite(table).all(1)
        if not is_right.all():
            raise ValueError(
                f'{self.proposal_file}: {key}: expected finite boxes with '
                f'x1 <= x2 and y1 <= y2, got {table[~is_right][0].tolist()}'
            )
        if boxes.size and not 0 <= boxes.min() <= boxes.max() <= 1:
            raise InputError(
                f'{self.proposal_file}: {key}: expected boxes as shares of '
                f'width and height, got {boxes.min()} to {boxes.max()}; '
                'divide them by the size of the frame'
            )
        if len(table) and table.shape[1] == 5:
            least = min(self.score_thr, table[:, 4].max())
            boxes = boxes[table[:, 4] >= least]
        return boxes


@reads('a pickled dict from frames to boxes')
def _read_boxes(path: str) -> dict:
    """Read proposals, without running code that the file may hold.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    try:
        found = read_pickle(get(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path}: expected a pickled dict from frames to boxes, got a '
            f'file that cannot be read: {error}'
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f'{path}: expected a dict from frames to boxes, got '
            f'{type(found).__name__}'
        )
    return found
