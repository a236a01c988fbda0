"""Video to codes and back."""
