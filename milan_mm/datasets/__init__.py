"""What training reads: images, labels, random crops."""
