"""Spatio-temporal action localisation after YOWO."""
