"""Dictionaries: sparse codes of what a transformer's sites hold; training, files, measures.

One `Dictionary` per site, a `DictionarySet` for a model. What a cell or a trace reads of them is
`dictionary.py`; no other folder needs to know how they were trained.
"""
