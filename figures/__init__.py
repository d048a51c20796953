"""What people look at: all figures, and the window to draw in."""
