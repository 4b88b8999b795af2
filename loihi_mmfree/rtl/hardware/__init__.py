"""The core in Amaranth: nothing here is imported before hardware is generated."""
