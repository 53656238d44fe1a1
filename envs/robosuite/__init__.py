"""robosuite's tasks: the environment, its models and its scenes."""
