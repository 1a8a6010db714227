"""Who set which field of an object (metadata.managedFields), and server-side apply, which goes by that. All is pure."""
