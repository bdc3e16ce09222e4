"""Outbound technology, one folder a family."""
