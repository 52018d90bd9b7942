"""What a person sees: text for terminals, a live and a static view for notebooks. All are fed with snapshots."""
