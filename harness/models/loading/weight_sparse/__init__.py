"""Weight-sparse transformers in the form of openai/circuit_sparsity, and their circuits.

Also the form in which our own files hold tensors most of whose entries are zero.
"""
