"""Build side, pure: images, predictions, statements ready to sign."""
