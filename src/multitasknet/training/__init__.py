"""The parts of fine-tuning: batches, augmentation, losses, schedule, optimizer and loop."""
