"""Assets: objects and buckets that DAGs produce and consume."""
