"""Bars from ticks, and longer bars from shorter ones, of any length from a second to a week."""
