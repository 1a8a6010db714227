"""Shows packets: self-contained HTML pages with ladder diagrams and paths."""
