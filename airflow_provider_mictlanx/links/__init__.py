"""Links from a task to the storage."""
