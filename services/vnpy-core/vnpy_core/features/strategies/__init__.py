"""Strategies: their classes, settings, life, orders, logs and profit."""
