"""Admission by others: webhooks that configurations name are asked before an object is stored (upstream's plugins
MutatingAdmissionWebhook and ValidatingAdmissionWebhook)."""
