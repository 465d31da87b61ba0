"""Questions asked of trained models and of rules, each with a command."""
