"""The forms in which an audit is shown: page, JSON, RO-Crate, in-toto."""
