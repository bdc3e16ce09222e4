"""The shapes through which rooms meet; `app.py` introduces the implementations."""
