"""A compiler from programs (`harness.datasets.program`) to the weights of the one transformer.

The construction is that of Tracr (Lindner et al. 2023), written from scratch: every value of the
program has its own dimensions in the residual stream, a head does one aggregate, an MLP does maps.
"""
