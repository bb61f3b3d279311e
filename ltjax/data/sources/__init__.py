"""Sources of images: named sets, folders, lists, arrays."""
