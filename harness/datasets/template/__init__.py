"""Data of kind `template`: tasks written in YAML alone, as sentences with slots.

`read` resolves the names of a task file to a plan, `render` turns fillings into tokens, `task` is
the opened task, and `check` names all that is wrong with its place in the file.
"""

from harness.datasets.kinds import DataKind
from harness.datasets.template.check import template_problems
from harness.datasets.template.read import read_plan
from harness.datasets.template.task import open_template

KIND = DataKind(
    open=open_template,
    problems=template_problems,
    problems_without_tokens=lambda data, _, folder, *classes: read_plan(data, folder, *classes)[1],
    files=lambda data: [words.file for words in data.lists.values() if words.file],
    in_classes=True,
)
