"""The operating system: signals, threads, safe reading and writing of files, plug-ins, versions."""
