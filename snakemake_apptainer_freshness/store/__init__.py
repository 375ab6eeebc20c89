"""What this user holds: image folders, what is known of the images in them, and how they are fetched."""
