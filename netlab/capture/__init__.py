"""Packets: captured at an interface of any namespace, and read back."""
