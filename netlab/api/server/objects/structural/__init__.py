"""Structural schemas: what a CustomResourceDefinition says of its objects, and what the server makes of that."""
