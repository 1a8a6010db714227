"""Container images (OCI's and Docker's): read from files and registries, and unpacked into a store that labs share."""
