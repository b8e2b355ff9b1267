"""Sources of uploads and sinks of downloads."""
