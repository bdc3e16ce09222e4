"""Users and logins on disk."""
