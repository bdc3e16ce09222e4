"""Logging in: who is asking, and with which role."""
