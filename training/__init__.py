"""How LeNet-5 is trained: data, distortions, optimizer, recipes, runs."""
