"""Operators: each calls a method of the hook and returns a small result."""
