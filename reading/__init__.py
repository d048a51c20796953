"""From a picture to digits: NumPy, OpenCV and Pillow only, no torch."""
