"""The command line: parses, calls the Python interface, prints. One file a command."""
