"""Parts of an RO-Crate that the format is made of: entities, and how a workflow's steps were run."""
