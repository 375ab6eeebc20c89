"""What is stored on this machine: image folders, facts about their images, and how images are fetched into them."""
