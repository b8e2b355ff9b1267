"""Copy, delete or download many balls in one call."""
