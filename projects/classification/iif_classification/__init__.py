"""Long-tailed image classification with the methods of `iif_d2`, on torch and torchvision alone."""
