"""YAML files read strictly, as YAML 1.2, with the line and column of every key and value.

`strict_json` reads JSON by the same rules: nothing that hides a mistake or does harm.
"""
