"""What lies on this disk: SIF files, Snakemake's image folder, Apptainer's cache, and our records of them."""
