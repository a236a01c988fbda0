"""Long-video synthesis (not built yet): plan, workers, streaming writer."""
