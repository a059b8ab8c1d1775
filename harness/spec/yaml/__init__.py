"""YAML files read strictly, as YAML 1.2, with the line and column of every key and value."""
