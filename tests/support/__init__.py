"""What tests stand on: a clock that jumps, cables that fail, and builders of facts."""
