"""HTTP connections: TLS, limits, network errors, redaction."""
