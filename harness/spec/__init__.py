"""Specs: YAML files checked against JSON Schemas and turned into frozen dataclasses."""
