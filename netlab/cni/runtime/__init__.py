"""What calls plugins: networks' configurations, attachments, chains of plugins. The counterpart of libcni."""
