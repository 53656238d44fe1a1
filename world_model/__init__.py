"""World models: learned from recorded play alone, audited, and imagined in."""
