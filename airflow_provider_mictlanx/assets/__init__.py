"""MictlanX as something that DAGs produce and consume: asset URIs, and the places that lineage tells of."""
