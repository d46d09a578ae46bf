"""Plans that come with edgellm: one TOML file each, named on the command line without its suffix."""
