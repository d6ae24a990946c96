"""Made-up molecules, plates and studies with a known truth."""
