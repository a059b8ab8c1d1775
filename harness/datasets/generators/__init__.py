"""Data of kind `generator`: prompt pairs made by Python code, ours or that of a plug-in.

One module or package for each generator; `registry` finds them by name, `params` reads their
parameters.
"""

from harness.datasets.generators.check import generator_problems, open_generated
from harness.datasets.generators.registry import Generator, generator, generator_names, plug_in
from harness.datasets.kinds import DataKind

KIND = DataKind(
    open=open_generated,
    problems=generator_problems,
    problems_without_tokens=generator_problems,
    plug_in=lambda data: plug_in(data.generator),
)

__all__ = ["KIND", "Generator", "generator", "generator_names", "plug_in"]
