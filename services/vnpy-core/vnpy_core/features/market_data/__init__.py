"""Market data: what was recorded, imported and downloaded."""
