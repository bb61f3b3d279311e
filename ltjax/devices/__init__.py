"""Devices: the mesh, several processes, memory, compiled programs."""
