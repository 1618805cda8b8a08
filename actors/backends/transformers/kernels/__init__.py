"""What the models compute beside matrix products: attention and small operations, by torch or by Triton."""
