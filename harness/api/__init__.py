"""The harness from Python: what notebooks and plug-ins import, as `import harness`.

Names in `harness.__all__` do not move; modules here may.
"""
