"""The Container Network Interface: both the plugin's side and the runtime's side."""
