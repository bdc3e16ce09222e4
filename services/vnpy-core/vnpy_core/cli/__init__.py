"""What the command line does besides serving; each module imports what it needs when it is called."""
