"""The page of an audit: what stands where, its pictures, and the templates that draw them."""
