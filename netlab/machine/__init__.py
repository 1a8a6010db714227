"""A host made of namespaces: its pid 1, the containers it runs, the built-in images, and its clients."""
