"""Exact and fast replacements of single steps: NMS of the best k, and masks to run lengths.

Each has a plain twin in its test, which it must equal.
"""
