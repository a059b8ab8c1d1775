"""The spec classes: what a task, model, method or suite file holds, key by key.

Those of a task's data are in the packages of their kinds (`harness.spec.data_kinds`). To add a
key, add a field to its class; then `make schemas` writes the JSON Schemas in `specs/`.
"""

from harness.spec.types.architecture import ActivationSparsity, Architecture, SparseSite
from harness.spec.types.choices import CHOICES, chosen, recorded
from harness.spec.types.corpus import Corpus
from harness.spec.types.dictionary import (
    DictionaryForm,
    DictionaryLabels,
    DictionarySpec,
    LoadDictionary,
    RandomDictionary,
    TrainDictionary,
)
from harness.spec.types.dictionary_training import DictionaryTarget, DictionaryTraining
from harness.spec.types.evaluation import (
    HOW_LARGE,
    CircuitTarget,
    Evaluation,
)
from harness.spec.types.evaluation_change import EvaluationChange
from harness.spec.types.method import Method, ParamSearch, Selection
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
from harness.spec.types.scalars import DEFAULT_SHARES, SplitShares
from harness.spec.types.sparsity import Anneal, Sparsity
from harness.spec.types.suite import ControlSearch, Exclusion, FurtherGrid, Runtime, Suite
from harness.spec.types.task import Data, Task, TokenizerSpec
from harness.spec.types.training import Training, TrainingTarget

__all__ = [
    "CHOICES",
    "DEFAULT_SHARES",
    "HOW_LARGE",
    "MIB_SIZES",
    "Ablation",
    "ActivationSparsity",
    "Anneal",
    "Architecture",
    "CircuitTarget",
    "CompileModel",
    "ControlSearch",
    "Corpus",
    "Data",
    "DictionaryForm",
    "DictionaryLabels",
    "DictionarySpec",
    "DictionaryTarget",
    "DictionaryTraining",
    "EdgePositions",
    "Evaluation",
    "EvaluationChange",
    "Exclusion",
    "ExtraMeasure",
    "FurtherGrid",
    "HeadBias",
    "Inputs",
    "KeyValueEdges",
    "LoadDictionary",
    "LoadModel",
    "Method",
    "Metric",
    "Model",
    "ModelFormat",
    "ModelLabels",
    "Objective",
    "ParamSearch",
    "RandomDictionary",
    "Runtime",
    "Selection",
    "SparseSite",
    "Sparsity",
    "SplitShares",
    "Suite",
    "Task",
    "TokenizerSpec",
    "TrainDictionary",
    "TrainModel",
    "Training",
    "TrainingTarget",
    "chosen",
    "recorded",
]
