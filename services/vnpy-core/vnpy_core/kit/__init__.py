"""Small tools that know nothing of trading."""
