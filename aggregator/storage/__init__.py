"""Where the server keeps what a round needs: contracts in `base`, one implementation a file."""
