"""The MictlanX protocol: one method per HTTP request."""
