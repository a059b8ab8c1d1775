"""Generator `quotes`: which quotation mark closes this string?"""
