"""A routing table in HAProxy's words (`config`), its servers (`slots`), and what runs them (`process`, `server`)."""
