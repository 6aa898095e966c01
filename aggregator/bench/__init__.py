"""`sangam bench`: real rounds over loopback, beside a plain sum over the same streaming path in the same run."""
