"""Use cases, one folder each; siblings are strangers."""
