"""Exact and fast replacements of single steps: NMS of the best k, masks to run lengths, and
layers that compute the rows of one class.

Each has a plain twin in its test, which it must equal.
"""
