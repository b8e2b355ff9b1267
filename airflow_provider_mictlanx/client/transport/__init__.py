"""HTTP engines and connections: TLS, proxies, headers, limits and network errors."""
