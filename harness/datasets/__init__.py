"""Tasks' data: prompt pairs and training batches in disjoint, reproducible splits.

Each kind of data is a package (`template`, `program`, `files`, `generators`); `kinds` says what
such a package has to offer. `open` opens a task, `check` names its mistakes by place, `batch` makes
tensors of prompt pairs.
"""

from harness.datasets.open import content_digests, open_data
from harness.datasets.pairs import PromptPairs, TaskData, TrainingBatch

__all__ = ["PromptPairs", "TaskData", "TrainingBatch", "content_digests", "open_data"]
