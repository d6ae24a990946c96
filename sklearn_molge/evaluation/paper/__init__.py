"""What Finlayson et al. (2020) did: their rows, claims, numbers and figures."""
