"""Who calls, and what they may do: authentication, authorization, tokens and the certificate authority."""
