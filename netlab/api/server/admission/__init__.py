"""What the server adds to objects, and refuses, before they are stored: upstream's admission plugins, in its order."""
