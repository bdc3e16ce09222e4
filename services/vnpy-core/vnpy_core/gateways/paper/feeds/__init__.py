"""Where the paper market comes from: recordings, or a generator."""
