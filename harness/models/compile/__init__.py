"""A compiler from programs (`harness.datasets.program`) to the weights of the one transformer.

The construction is Tracr's (Lindner et al. 2023), made anew: every value of the program has
dimensions of its own in the residual stream, a head does one aggregate, an MLP does maps.
"""
