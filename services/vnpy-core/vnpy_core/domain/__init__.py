"""What the service talks about: frozen events and commands, enums, ids and errors. No framework, no vnpy."""
