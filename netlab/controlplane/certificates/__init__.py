"""Requests for certificates: approved where that needs nobody, and signed (pkg/controller/certificates)."""
