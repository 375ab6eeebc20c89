"""JSON Schemas (2020-12) of what people write and other programs read, for editors and validators."""
