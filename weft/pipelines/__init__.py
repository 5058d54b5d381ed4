"""What a pipeline means and how it runs."""
