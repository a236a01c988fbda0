"""What fills the four conditioning ports."""
