"""Following one packet through a lab: what ought to become of it, and what became of it."""
