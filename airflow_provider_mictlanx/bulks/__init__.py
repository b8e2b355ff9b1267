"""Durable bulks: uploads of many balls whose progress is recorded in the storage itself."""
