"""The lab: its topology, its processes, up and down."""
