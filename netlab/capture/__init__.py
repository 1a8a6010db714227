"""Captures packets at interfaces in any namespace, and reads them back."""
