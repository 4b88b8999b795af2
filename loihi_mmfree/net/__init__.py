"""The folder net/ of a compiled network: its files, written whole, and read back with everything checked."""
