"""What once went wrong without a word, and what must hold instead.

Each module has a tuple ``CHECKS`` of functions that take nothing and return
whether what their docstring says holds, and what was found.
"""
