"""Scores from gradients or from a single run: EAP, EAP-IG, mask gradients, nodes, flow routes.

`input_path` and `held_groups` are the runs whose gradients EAP-IG and node attribution average.
"""
