"""The composition root of an edge node: no engine, no journal, no VnPy; everything comes from Redis."""
