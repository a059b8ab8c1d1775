"""Data of kind `generator`: prompt pairs made by Python code, ours or that of a plug-in.

One module or package for each generator; `registry` finds them by name, `params` reads their
parameters.
"""

from harness.datasets.generators.registry import Generator, generator, generator_names, plug_in

__all__ = ["Generator", "generator", "generator_names", "plug_in"]
