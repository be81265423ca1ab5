"""What `tunesmith new` makes: recipes, packages of recipes, and plugins, ready to run and to test."""
