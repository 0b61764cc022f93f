"""What `tether server` adds for browsers: the pages themselves, and cookies."""
