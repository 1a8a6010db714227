"""Packets for the eye: self-contained HTML pages with ladder diagrams and paths."""
