"""The files that users write, and requests made of them."""
