"""Follows one packet through a lab: what should happen to it, and what does."""
