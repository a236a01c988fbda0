"""Long-video synthesis: jobs, segments made by workers, and the writer of growing videos."""
