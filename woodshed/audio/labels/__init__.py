"""Recordings and their labels: a folder looked through, sidecars read, what is missing measured or drafted."""
