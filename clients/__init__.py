"""What a hospital, an operator or a script imports: sessions that contribute to secure rounds."""
