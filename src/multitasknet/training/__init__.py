"""The parts of fine-tuning: sampler, augmentation, losses, schedule, optimizer and training loop."""
