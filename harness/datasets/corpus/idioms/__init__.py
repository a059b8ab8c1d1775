"""A language of simple, repetitive Python: a seeded generator that knows its exact entropy.

It has the idioms of the twenty tasks of `tasks/code`. Every text has one derivation, so that
−log p of what was drawn is that of the text.
"""
