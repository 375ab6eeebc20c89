"""The record of a run: written by the workflow engine, read by the audit."""
