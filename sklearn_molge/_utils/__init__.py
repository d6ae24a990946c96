"""What several rooms need and no user sees."""
