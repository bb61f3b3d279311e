"""Images that stay on the host and go to the device batch by batch."""
