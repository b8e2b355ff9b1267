"""Upload, download, copy and delete: the safety rules of the client."""
