"""One end of a link: goodbyes, acknowledgements and silence, as a machine."""
