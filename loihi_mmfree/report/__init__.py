"""What was found, for people and programs: documents, tables, pages."""
