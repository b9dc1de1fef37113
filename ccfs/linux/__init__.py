"""System calls of Linux that Python's library doesn't have; nothing here knows what ccfs is."""
