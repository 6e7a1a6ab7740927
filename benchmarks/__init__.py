"""Timings, and the count of operations that they are held against."""
