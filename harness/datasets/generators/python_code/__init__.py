"""Generator `python_code`: twenty questions about simple Python, after the idioms of a corpus.

`cues` has the questions, `source` draws the code before them.
"""
