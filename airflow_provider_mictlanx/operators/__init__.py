"""Operators: parameters in, a hook call, a small result out."""
