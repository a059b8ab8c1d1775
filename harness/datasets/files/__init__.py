"""Data of kind `file`: prompt pairs read from JSON Lines, CSV or Parquet."""

from harness.datasets.files.task import file_problems, open_file, pairs_of_rows
from harness.datasets.kinds import DataKind
from harness.datasets.problems import share_problems_at

__all__ = ["KIND", "open_file", "pairs_of_rows"]

KIND = DataKind(
    open=open_file,
    problems=file_problems,
    problems_without_tokens=lambda data, *_: share_problems_at(data.shares),
    notes=lambda opened: [] if opened.left_out is None else [opened.left_out],
    files=lambda data: (data.path,),
    in_classes=True,
)
