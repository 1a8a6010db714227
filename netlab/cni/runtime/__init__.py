"""What calls plugins: networks' configurations, attachments, installation. The counterpart of libcni."""
