"""Published instances as requests, each with what is known of its best plans."""
