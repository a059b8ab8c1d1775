"""Data of kind `template`: tasks written in YAML alone, as sentences with slots.

`read` resolves the names of a task file to a plan, `render` turns fillings into tokens, `task` is
the opened task, and `check` names all that is wrong with its place in the file.
"""
