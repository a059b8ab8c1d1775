"""The spec classes: what a task, model, method or suite file holds, key by key.

To add a key, add a field to its class; then `make schemas` writes the JSON Schemas in `specs/`.
"""

from harness.spec.types.architecture import Architecture
from harness.spec.types.choices import CHOICES, chosen, recorded
from harness.spec.types.evaluation import (
    HOW_LARGE,
    CircuitTarget,
    Evaluation,
    EvaluationChange,
)
from harness.spec.types.file_data import Columns, FileData
from harness.spec.types.generator_data import GeneratorData
from harness.spec.types.method import Method, Selection
from harness.spec.types.model import (
    CompileModel,
    LoadModel,
    Model,
    ModelLabels,
    TrainModel,
)
from harness.spec.types.names import (
    MIB_SIZES,
    Ablation,
    EdgePositions,
    ExtraMeasure,
    HeadBias,
    Inputs,
    KeyValueEdges,
    Metric,
    ModelFormat,
    Objective,
)
from harness.spec.types.program import ProgramData, ProgramSelect, ProgramStep
from harness.spec.types.scalars import DEFAULT_SHARES, SplitShares
from harness.spec.types.suite import Exclusion, Runtime, Suite
from harness.spec.types.task import Data, Task, TokenizerSpec
from harness.spec.types.template import AnswerRule, Template, TemplateData, WordList
from harness.spec.types.training import Training, TrainingTarget

__all__ = [
    "CHOICES",
    "DEFAULT_SHARES",
    "HOW_LARGE",
    "MIB_SIZES",
    "Ablation",
    "AnswerRule",
    "Architecture",
    "CircuitTarget",
    "Columns",
    "CompileModel",
    "Data",
    "EdgePositions",
    "Evaluation",
    "EvaluationChange",
    "Exclusion",
    "ExtraMeasure",
    "FileData",
    "GeneratorData",
    "HeadBias",
    "Inputs",
    "KeyValueEdges",
    "LoadModel",
    "Method",
    "Metric",
    "Model",
    "ModelFormat",
    "ModelLabels",
    "Objective",
    "ProgramData",
    "ProgramSelect",
    "ProgramStep",
    "Runtime",
    "Selection",
    "SplitShares",
    "Suite",
    "Task",
    "Template",
    "TemplateData",
    "TokenizerSpec",
    "TrainModel",
    "Training",
    "TrainingTarget",
    "WordList",
    "chosen",
    "recorded",
]
