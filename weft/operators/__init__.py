"""What happens to rows: one family a package, one operator a module."""
